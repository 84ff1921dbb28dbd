"""docs/bridge.md: its set-up works when pasted, and its tables equal the code."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import psycopg
import pytest
from eth_account import Account

from api.cli import interval, parser
from bridge import bind, command
from bridge.halts import EXIT_STATUS, REASONS
from tests.bridge.conftest import node, world  # noqa: F401
from tests.bridge.world import ETHER, PUBLISHER, World
from tests.documents.pages import ROOT, block, page, table
from tests.operations.test_systemd import Unit
from tests.running.commands import LEDGER, done, environment
from tests.support import Database, one

UNIT = ROOT / "deploy" / "ledger-bridge.service"
VAULT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"


def in_shell(script: str, folder: Path, **settings: str) -> str:
    """Run a script as root would, with its folders below another one, and with a systemctl that only prints."""
    for name in ("/etc/ledger", "/etc/systemd/system", "/var/lib/prometheus/node-exporter", "/run/ledger-bridge"):
        (folder / name[1:]).mkdir(parents=True, exist_ok=True)
        script = script.replace(name, str(folder / name[1:]))
    script = script.replace("/opt/ledger/bin/ledger", str(LEDGER))
    (folder / "systemctl").write_text('#!/bin/sh\necho systemctl "$@"\n')
    (folder / "systemctl").chmod(0o755)
    env = environment(PATH=f"{folder}:{LEDGER.parent}:{os.environ['PATH']}", **settings)
    result = subprocess.run(["sh", "-e", "-c", script], env=env, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def bridge_parser() -> argparse.ArgumentParser:
    (commands,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    found: argparse.ArgumentParser = commands.choices["bridge"]
    return found


def test_every_option_is_documented_with_its_default() -> None:
    documented = {row[0].strip("`"): row[1] for row in table("bridge", "Option")}
    options = {
        action.option_strings[-1]: action.default
        for action in bridge_parser()._actions
        if action.option_strings and not isinstance(action, argparse._HelpAction)
    }
    assert list(documented) == list(options)
    assert options["--from-block"] == options["--pay-from"] == 0 == int(documented["--from-block"])
    assert options["--max-fee"] == command.gwei(documented["--max-fee"])
    assert options["--every"] == interval(documented["--every"])


def test_every_reason_to_halt_is_documented() -> None:
    assert {row[0].strip("`"): row[1] for row in table("bridge", "Reason")} == REASONS
    assert f"exits with {EXIT_STATUS}." in " ".join(page("bridge").read_text().split())
    assert Unit(UNIT.read_text())["Service"]["RestartPreventExitStatus"] == str(EXIT_STATUS)


def test_the_log_lines_are_those_that_are_written() -> None:
    followed, halted = map(json.loads, block("bridge", "json", '"followed"').splitlines())
    assert [*followed] == ["time", "event", "group_id", "block", "events"]
    assert [*halted] == ["time", "level", "event", "reason", "message"]


def test_the_message_is_the_one_that_is_checked() -> None:
    text = block("bridge", "", "Domain:").removesuffix("\n")
    domain = re.findall("0x[0-9a-f]{64}", text)[0]
    assert text == bind.message(domain, 7)


def test_the_login_and_the_link_work_when_pasted(database: Database) -> None:
    with database.connect(database.admin) as admin:
        script = block("bridge", "sql", "create role").replace("database ledger ", "database ledger_test ")
        try:
            admin.execute(script.encode())
            admin.execute("select ledger.create_group('ETH')")
            admin.execute(block("bridge", "sql", "link_vault").encode())
            admin.execute("reset role")
            assert one(admin, "select vault from ledger.get_vault(1)") == (VAULT,)
            may = (
                "select has_function_privilege('ledger_bridge_service', oid, 'execute') from pg_proc where proname = %s"
            )
            assert one(admin, may, ["credit_deposit"]) == (True,)
            assert one(admin, may, ["transfer"]) == (False,)
        finally:
            admin.execute("drop owned by ledger_bridge_service")
            admin.execute("drop role ledger_bridge_service")


def test_the_keys_are_made_when_pasted(tmp_path: Path) -> None:
    printed = in_shell(block("bridge", "sh", "bridge key"), tmp_path).split()
    for name, address in zip(("publisher", "payer"), printed, strict=True):
        for suffix in ("json", "passphrase"):
            assert (tmp_path / "etc/ledger" / f"{name}.{suffix}").stat().st_mode & 0o177 == 0
        keystore = json.loads((tmp_path / "etc/ledger" / f"{name}.json").read_text())
        assert keystore["address"].removeprefix("0x").lower() == address[2:].lower()


def test_what_is_installed_is_a_bridge(world: World, tmp_path: Path) -> None:  # noqa: F811
    said = in_shell(block("bridge", "sh", "bridge.env"), tmp_path)
    assert said.splitlines() == ["systemctl daemon-reload", "systemctl enable --now ledger-bridge"]
    given = (tmp_path / "etc/ledger/bridge.env").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in given)
    assert psycopg.conninfo.conninfo_to_dict(settings.pop("DATABASE_URL"))["user"] == "ledger_bridge_service"
    options = shlex.split(settings.pop("BRIDGE_OPTIONS"))
    assert [*settings] == ["LEDGER_RPC", "LEDGER_CHECK_RPC"]
    bridge_parser().parse_args(options)

    # As systemd starts it, with the keys that the unit names as credentials.
    unit = Unit((tmp_path / "etc/systemd/system/ledger-bridge.service").read_text())
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    text = UNIT.read_text()
    names = dict(re.findall(r"^LoadCredential=([a-z-]+):/etc/ledger/(.*)$", text, re.MULTILINE))
    assert names == {
        f"{key}-{part}": f"{key}.{suffix}"
        for key in ("publisher", "payer")
        for part, suffix in (("key", "json"), ("passphrase", "passphrase"))
    }
    for name in names:
        secret = "words" if name.endswith("passphrase") else json.dumps(keystore(name))
        (credentials / name).write_text(secret)
        (credentials / name).chmod(0o440)
    program, *arguments = shlex.split(unit["Service"]["ExecStart"].replace("/run/", f"{tmp_path}/run/"))
    assert (program, arguments.pop()) == ("/opt/ledger/bin/ledger", "$BRIDGE_OPTIONS")
    world.deposit(world.alice, ETHER)
    world.node.finalize()
    done(
        *arguments,
        "--once",
        DATABASE_URL=world.database.url("ledger_test_bridge"),
        LEDGER_RPC=world.node.url,
        LEDGER_CHECK_RPC=world.node.url,
        CREDENTIALS_DIRECTORY=credentials,
    )
    assert [*world.balances().values()] == [ETHER]
    assert (tmp_path / "var/lib/prometheus/node-exporter/ledger-bridge.prom").exists()
    assert f"/run/{unit['Service']['RuntimeDirectory']}/" in unit["Service"]["ExecStart"]


def keystore(name: str) -> dict[str, object]:
    key = PUBLISHER.key if name.startswith("publisher") else b"\x22" * 32
    made: dict[str, object] = Account.encrypt(key, "words", kdf="scrypt", iterations=2)
    return made


def test_an_address_is_bound_and_a_group_adopted_when_pasted(world: World, tmp_path: Path) -> None:  # noqa: F811
    query = "select id from ledger.join_group(%s, 'erin', 0, address => %s)"
    owner = Account.from_key(b"\x33" * 32)
    (participant,) = one(world.ledger, query, [world.group, owner.address])
    text = bind.message(world.view("domain", world.group), participant)
    from eth_account.messages import encode_defunct

    signature = "0x" + bytes(owner.sign_message(encode_defunct(text=text)).signature).hex()
    script = block("bridge", "sh", "bridge bind").replace("bind 1 7", f"bind {world.group} {participant}")
    settings = {"DATABASE_URL": world.database.url("ledger_test_bridge"), "SIGNATURE": signature}
    printed = in_shell(script.replace(VAULT, owner.address), tmp_path, **settings)
    assert printed == f"{text}\n{owner.address}\n"

    world.deposit(world.alice, ETHER)
    world.node.finalize()
    world.settle_down(2)
    (tmp_path / "snapshot.json").write_text(json.dumps(world.snapshot(1)))
    script = block("bridge", "sh", "bridge adopt").replace("https://node.example/", world.node.url)
    script = script.replace("snapshot.json", str(tmp_path / "snapshot.json"))
    assert "nothing to adopt" in in_shell(script, tmp_path, **settings)


@pytest.mark.parametrize("name", ["publisher", "payer"])
def test_the_unit_never_names_a_secret_but_as_a_credential(name: str) -> None:
    lines = [line for line in UNIT.read_text().splitlines() if name in line]
    assert all(line.startswith("LoadCredential=") for line in lines)
