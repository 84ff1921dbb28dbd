"""`ledger guardian` as a process: its options, its log, its metrics, and its end."""

from __future__ import annotations

import itertools
import json
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from eth_account import Account
from prometheus_client.parser import text_string_to_metric_families

from bridge.guardian_metrics import SHOWN
from tests.anvil import Anvil, running
from tests.bridge import inside
from tests.bridge.operator import DELAY, ETHER, GUARDIAN_KEY, PUBLISHER_KEY, WINDOW, Operator, deploy
from tests.running.commands import LEDGER, environment, free_port
from tests.support import until

GROUPS = itertools.count(1)


@pytest.fixture(scope="module")
def anvil() -> Iterator[Anvil]:
    with running() as node:
        yield node


@pytest.fixture(scope="module")
def vault(anvil: Anvil) -> str:
    return deploy(anvil)


@pytest.fixture
def operator(anvil: Anvil, vault: str, tmp_path: Path) -> Operator:
    (tmp_path / "served").mkdir()
    return Operator(anvil, vault, next(GROUPS), tmp_path / "served")


@pytest.fixture
def words(operator: Operator, tmp_path: Path) -> list[str]:
    """The command, for the group of the test."""
    for name, key in (("guardian", GUARDIAN_KEY), ("publisher", PUBLISHER_KEY)):
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(Account.encrypt(key, "open sesame", kdf="pbkdf2", iterations=1000)))
        file.chmod(0o600)
    (tmp_path / "passphrase").write_text("open sesame\n")
    (tmp_path / "passphrase").chmod(0o600)
    (tmp_path / "kept").mkdir()
    options = {
        "--rpc": operator.node.url,
        "--vault": operator.vault.lower(),
        "--snapshots": f"file://{operator.served}",
        "--folder": str(tmp_path / "kept"),
        "--groups": str(operator.group),
        "--key": str(tmp_path / "guardian.json"),
        "--passphrase-file": str(tmp_path / "passphrase"),
        "--metrics-file": str(tmp_path / "guardian.prom"),
        "--every": "1s",
    }
    return ["guardian", *(word for pair in options.items() for word in pair)]


@pytest.fixture
def guarding(words: list[str], tmp_path: Path) -> Callable[[], object]:
    """Run the command in a process of its own; its lines are in the files out and errors."""

    @contextmanager
    def run() -> Iterator[subprocess.Popen[bytes]]:
        with (
            (tmp_path / "out").open("ab") as out,
            (tmp_path / "errors").open("ab") as errors,
            subprocess.Popen([LEDGER, *words], env=environment(), cwd="/", stdout=out, stderr=errors) as process,
        ):
            try:
                yield process
            finally:
                process.kill()

    return run


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def metrics(file: Path) -> dict[str, float]:
    samples = [sample for family in text_string_to_metric_families(file.read_text()) for sample in family.samples]
    return {"".join((sample.name, *sample.labels.values())): sample.value for sample in samples}


def test_guards_until_it_is_stopped_and_goes_on_after_a_kill(operator, guarding, tmp_path):
    operator.deposit(ETHER)
    operator.publish([operator.leaf(1, ETHER)])
    kept = tmp_path / "kept" / str(operator.group)
    with guarding() as process:
        until((kept / "1.json").exists, "the snapshot")
        process.kill()
        process.wait()
    operator.node.pass_time(DELAY + WINDOW)
    operator.publish([operator.leaf(1, ETHER)], serve=False)
    (kept / "2.0123.1.part").touch()  # what a kill leaves
    with guarding() as process:
        until(lambda: "attempt_failed" in (tmp_path / "errors").read_text(), "an attempt")
        assert not (kept / "2.0123.1.part").exists()
        operator.node.pass_time(DELAY // 2)
        until(lambda: operator.view("latest", operator.group)[0] == 1, "the veto")
        until(lambda: metrics(tmp_path / "guardian.prom").get("ledger_guardian_vetoes_total"), "the metrics")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    said = lines(tmp_path / "out")
    assert [line["event"] for line in said].count("started") == 2
    assert all(line["time"].endswith("Z") for line in said)
    clean = next(line for line in said if line["event"] == "root")
    assert (clean["group_id"], clean["number"], clean["outcome"]) == (operator.group, 1, "clean")
    withheld = next(line for line in lines(tmp_path / "errors") if line["event"] == "root")
    assert (withheld["level"], withheld["number"], withheld["outcome"]) == ("error", 2, "withheld")
    counted = metrics(tmp_path / "guardian.prom")
    assert counted["ledger_guardian_roots_totalwithheld"] == 1
    assert counted["ledger_guardian_roots_pending"] == 0
    assert counted["ledger_guardian_balance_ether"] > 9_000
    assert stat.S_IMODE((tmp_path / "guardian.prom").stat().st_mode) == 0o644
    secret = "open sesame"
    assert secret not in (tmp_path / "out").read_text() + (tmp_path / "errors").read_text()


def test_the_metrics_are_those_that_are_documented(operator, words, tmp_path):
    assert inside.command(*words, "--once").returncode == 0
    families = text_string_to_metric_families((tmp_path / "guardian.prom").read_text())
    assert {family.name for family in families} == {metric.name.removesuffix("_total") for metric in SHOWN}


def test_once_ends_when_every_root_is_decided(operator, words, tmp_path, monkeypatch):
    operator.deposit(ETHER)
    snapshot = operator.publish([operator.leaf(1, ETHER)])
    assert inside.command(*words, "--once").returncode == 0
    kept = tmp_path / "kept" / str(operator.group) / "1.json"
    assert json.loads(kept.read_text()) == snapshot
    operator.node.pass_time(DELAY + WINDOW)
    operator.publish([operator.leaf(1, ETHER)], serve=False)
    monkeypatch.setattr("bridge.guardian_command.ONCE", 0.0)
    assert inside.command(*words, "--once").returncode == 1


def test_waits_for_a_node_that_is_away(words, tmp_path):
    words[words.index("--rpc") + 1] = f"http://127.0.0.1:{free_port()}"
    assert "does not answer" in inside.refusal(*words, "--once")
    with (tmp_path / "errors").open("wb") as errors, subprocess.Popen([LEDGER, *words], stderr=errors) as process:
        try:
            until(lambda: (tmp_path / "errors").read_text().count("does not answer") > 1, "two attempts")
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()


def test_refuses_what_cannot_guard(anvil, words, tmp_path):
    def changed(option: str, value: object) -> list[str]:
        place = words.index(option) + 1
        return [*words[:place], str(value), *words[place + 1 :], "--once"]

    other = tmp_path / "other"
    other.mkdir()
    for option, value, said in (
        ("--key", tmp_path / "publisher.json", "the key is that of"),
        ("--vault", anvil.accounts[5], "is no vault"),
        ("--folder", tmp_path / "missing", "cannot write into"),
        ("--metrics-file", tmp_path / "missing" / "a.prom", "cannot write into"),
        ("--snapshots", "ftp://name:secret@example.com", "an address of snapshots begins with file://"),
        ("--passphrase-file", tmp_path / "missing", "cannot read"),
    ):
        assert said in inside.refusal(*changed(option, value))
    (tmp_path / "guardian.json").chmod(0o644)
    assert "others may read it" in inside.refusal(*words, "--once")
    for option, value in (("--groups", "1,x"), ("--keep", "2"), ("--every", "soon"), ("--max-fee", "0")):
        assert inside.command(*words, option, value).returncode == 2


def test_refuses_the_folder_of_another_vault(anvil, words):
    assert inside.command(*words, "--once").returncode == 0
    words[words.index("--vault") + 1] = deploy(anvil)
    assert "choose another folder" in inside.refusal(*words, "--once")
