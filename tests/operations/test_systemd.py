"""A server with systemd: the installed files are a service. The test itself starts the unit's command."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import stat
import subprocess
import sysconfig
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.cli import interval
from api.server.settings import GRACE
from api.telemetry.checkpoints import SHOWN
from tests.operations.guide import Site, block, number
from tests.running.commands import LEDGER, ROOT, done, environment, free_port, serving
from tests.support import until

UNIT = ROOT / "deploy" / "ledger.service"
CHECKPOINTS = ROOT / "deploy" / "ledger-checkpoints.service"
BRIDGE = ROOT / "deploy" / "ledger-bridge.service"
GUARDIAN = ROOT / "deploy" / "ledger-guardian.service"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="systemd's own judgement needs systemd-analyze: apt-get install systemd",
)


class Unit(configparser.RawConfigParser):
    """A unit file: names count as they are spelled, and of a name that is there twice the last."""

    def __init__(self, text: str) -> None:
        super().__init__(strict=False, delimiters="=", interpolation=None)
        self.read_string(text)

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def test_the_unit_gives_the_service_time_to_stop() -> None:
    # GRACE is what the supervisor waits for a worker; 30 seconds is the longest drain that the guide allows for.
    given = float(Unit(UNIT.read_text())["Service"]["TimeoutStopSec"])
    assert number(r"`TimeoutStopSec` is (\d+) seconds") == given
    assert given > GRACE + 5 + number(r"`LEDGER_DRAIN` of up to (\d+)")
    assert number(r"requests in hand (\d+), and its workers 5 more") == GRACE


@needs_systemd
@pytest.mark.parametrize("source", [UNIT, CHECKPOINTS, BRIDGE, GUARDIAN], ids=lambda source: source.stem)
def test_systemd_accepts_the_unit_and_its_restrictions(tmp_path: Path, source: Path) -> None:
    unit = tmp_path / source.name
    unit.write_text(source.read_text().replace("/opt/ledger/bin/ledger", shutil.which("true") or ""))
    verified = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    assert (verified.returncode, [line for line in verified.stderr.splitlines() if source.name in line]) == (0, [])
    judge = ["systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", unit]
    assert subprocess.run(judge, stdout=subprocess.DEVNULL).returncode == 0


def test_the_installed_service_works(site: Site) -> None:
    installed, etc, system = (site.folder / name for name in ("opt", "etc", "system"))
    folders = {"/opt/ledger": installed, "/etc/ledger": etc, "/etc/systemd/system": system}
    system.mkdir()
    # Without a network: the project's dependencies and build tools are those of the tests.
    ours = {"PYTHONPATH": sysconfig.get_path("purelib"), "PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1"}
    install = block("sh", "python3 -m venv /opt/ledger")
    site.paste(install, folders=folders, **ours, PIP_NO_BUILD_ISOLATION="0")
    assert stat.filemode((etc / "service.env").stat().st_mode) == "-rw-------"

    said = site.paste(block("sh", "systemctl enable --now ledger\n"), folders=folders, PATH=stub(site, "systemctl"))
    assert said.splitlines() == ["systemctl daemon-reload", "systemctl enable --now ledger"]
    unit = Unit((system / "ledger.service").read_text().replace("/opt/ledger", str(installed)))["Service"]
    given = (etc / "service.env").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in given)
    site.paste("ledger key create first --scope admin", LEDGER_ADMIN_URL=site.url("db", "ledger_admin"))
    program, *arguments = shlex.split(unit["ExecStart"])
    settings |= {"LEDGER_PORT": (port := str(free_port()))}
    # A machine's own PORT means nothing.
    settings |= {"PORT": port}
    with serving(*arguments, program=Path(program), locked=True, PYTHONPATH=ours["PYTHONPATH"], **settings) as service:
        assert service.answers()
        assert len(service.workers) == 2
        code = "import api.server.worker; print(api.server.worker.__file__)"
        used = done("-P", "-c", code, program=installed / "bin" / "python", PYTHONPATH=ours["PYTHONPATH"])
        assert Path(used.strip()).is_relative_to(installed)

        # The command of a deployment after the new version was installed.
        restart = block("sh", "systemctl restart").replace("4000", str(service.port))
        if shutil.which("curl"):
            said = site.paste(restart, PATH=stub(site, "systemctl"))
            assert said == 'systemctl restart ledger\n{"data":{"status":"ok"}}'


def test_what_is_installed_makes_checkpoints(site: Site) -> None:
    system, collected, run = (site.folder / name for name in ("system", "node-exporter", "run"))
    folders = {
        "/etc/systemd/system": system,
        "/var/lib/prometheus/node-exporter": collected,
        "/run/ledger-checkpoints": run,
    }
    for folder in folders.values():
        folder.mkdir()
    said = site.paste(block("sh", "ledger-checkpoints"), folders=folders, PATH=stub(site, "systemctl"))
    assert said.splitlines() == ["systemctl daemon-reload", "systemctl enable --now ledger-checkpoints"]
    unit = Unit((system / CHECKPOINTS.name).read_text())["Service"]
    assert unit["EnvironmentFile"] == Unit(UNIT.read_text())["Service"]["EnvironmentFile"]
    assert f"/run/{unit['RuntimeDirectory']}/ledger.prom" in unit["ExecStart"]
    program, *arguments = shlex.split(unit["ExecStart"].replace("/run/ledger-checkpoints", str(run)))
    assert program == "/opt/ledger/bin/ledger"
    # With the service's login, and until it is stopped.
    with subprocess.Popen(
        [LEDGER, *arguments],
        env=environment(DATABASE_URL=site.url("db", "ledger_service")),
        stdout=subprocess.PIPE,
        text=True,
        umask=int(unit["UMask"], 8),
    ) as process:
        try:
            assert process.stdout is not None
            line = json.loads(process.stdout.readline())
            assert [*line] == [*json.loads(block("json", "leaf_count"))]
            assert (line["group_id"], line["number"], line["leaf_count"]) == (1, 1, 2)
            until((collected / "ledger.prom").exists, "the metrics")
            process.terminate()
            assert process.wait(float(unit["TimeoutStopSec"])) == 0
        finally:
            process.kill()
    scraped = [*text_string_to_metric_families((collected / "ledger.prom").read_text())]
    assert {family.name for family in scraped} == {metric.name.removesuffix("_total") for metric in SHOWN}
    assert stat.S_IMODE((run / "ledger.prom").stat().st_mode) == 0o644

    # The administrator can delete leaves beside it.
    said = site.paste(block("sh", "ledger checkpoint --all --keep"))
    assert said == ""


def test_the_alerts_follow_from_the_unit() -> None:
    rules = (ROOT / "deploy" / "alerts.yml").read_text()
    every = Unit(CHECKPOINTS.read_text())["Service"]["ExecStart"].split("--every ")[1].split()[0]
    assert {int(interval(every)) * 3} == {3 * int(seconds) for seconds in re.findall(r"> 3 \* (\d+)", rules)}


def stub(site: Site, name: str) -> str:
    """A PATH in which the command only prints its arguments, since no test may change systemd."""
    folder = site.folder / "stubs"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
    (folder / name).chmod(0o755)
    return f"{folder}:{site.path}"
