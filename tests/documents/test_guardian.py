"""docs/guardian.md: its set-up and its commands work when pasted, and its tables equal the code."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from eth_account import Account

from api.cli import interval, parser
from bridge import command
from bridge.guardian_metrics import OUTCOMES, SHOWN
from tests.anvil import Anvil, running
from tests.bridge.operator import DELAY, ETHER, GUARDIAN_KEY, PUBLISHER_KEY, SILENCE, Operator, deploy
from tests.documents.pages import ROOT, block, page, table
from tests.operations.test_systemd import Unit
from tests.running.commands import LEDGER, done, environment
from tests.support import Database, create

UNIT = ROOT / "deploy" / "ledger-guardian.service"
# The fourth account of every anvil, which participants are in these tests.
PARTICIPANT_KEY = "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6"
FOLDERS = (
    *("/etc/ledger", "/etc/systemd/system", "/var/lib/prometheus/node-exporter"),
    *("/run/ledger-guardian", "/var/lib/ledger-guardian"),
)


def in_shell(script: str, folder: Path, cwd: Path = ROOT, **settings: str) -> str:
    """Run a script as root would, with its folders below another one, and with a systemctl that only prints."""
    for name in FOLDERS:
        (folder / name[1:]).mkdir(parents=True, exist_ok=True)
        script = script.replace(name, str(folder / name[1:]))
    script = script.replace("/opt/ledger/bin/ledger", str(LEDGER))
    (folder / "systemctl").write_text('#!/bin/sh\necho systemctl "$@"\n')
    (folder / "systemctl").chmod(0o755)
    env = environment(PATH=f"{folder}:{LEDGER.parent}:{os.environ['PATH']}", **settings)
    result = subprocess.run(["sh", "-e", "-c", script], env=env, cwd=cwd, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def anvil() -> Iterator[Anvil]:
    with running() as node:
        yield node


@pytest.fixture
def operator(anvil: Anvil, tmp_path: Path) -> Operator:
    """An operator of group 1 of a vault of the test's own."""
    (tmp_path / "served").mkdir()
    return Operator(anvil, deploy(anvil), 1, tmp_path / "served")


def keystore(key: str) -> str:
    return json.dumps(Account.encrypt(key, "words", kdf="pbkdf2", iterations=1000))


def write_key(folder: Path, key: str) -> None:
    """The files that the page calls key.json and passphrase."""
    for name, text in (("key.json", keystore(key)), ("passphrase", "words\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)


def guardian_parser() -> argparse.ArgumentParser:
    (commands,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    found: argparse.ArgumentParser = commands.choices["guardian"]
    return found


def test_every_option_is_documented_with_its_default() -> None:
    documented = {row[0].strip("`"): row[1] for row in table("guardian", "Option")}
    options = {
        action.option_strings[-1]: action.default
        for action in guardian_parser()._actions
        if action.option_strings and not isinstance(action, argparse._HelpAction)
    }
    assert list(documented) == list(options)
    assert options["--max-fee"] == command.gwei(documented["--max-fee"])
    assert options["--every"] == interval(documented["--every"] + "s")
    for name in ("--keep", "--largest", "--from-block"):
        assert options[name] == int(documented[name])


def test_every_outcome_and_metric_is_documented() -> None:
    assert tuple(row[0].strip("`") for row in table("guardian", "Outcome")) == OUTCOMES
    documented = [(row[0].strip("`"), row[1], row[2], row[3]) for row in table("guardian", "Metric")]
    assert documented == [(metric.name, metric.kind, ", ".join(metric.labels), metric.meaning) for metric in SHOWN]


def test_the_key_is_made_when_pasted(tmp_path: Path) -> None:
    address = in_shell(block("guardian", "sh", "bridge key"), tmp_path).strip()
    for name in ("guardian.json", "guardian.passphrase"):
        assert (tmp_path / "etc/ledger" / name).stat().st_mode & 0o177 == 0
    made = json.loads((tmp_path / "etc/ledger/guardian.json").read_text())
    assert made["address"].removeprefix("0x").lower() == address[2:].lower()


def test_what_is_installed_is_a_guardian(operator: Operator, tmp_path: Path) -> None:
    said = in_shell(block("guardian", "sh", "guardian.env"), tmp_path)
    assert said.splitlines() == ["systemctl daemon-reload", "systemctl enable --now ledger-guardian"]
    etc = tmp_path / "etc/ledger"
    for name in ("guardian.env", "guardian.api-key"):
        assert (etc / name).stat().st_mode & 0o177 == 0
    settings = dict(line.split("=", 1) for line in (etc / "guardian.env").read_text().splitlines())
    options = shlex.split(settings.pop("GUARDIAN_OPTIONS"))
    assert [*settings] == ["LEDGER_RPC"]
    options[options.index("--vault") + 1] = operator.vault
    options[options.index("--snapshots") + 1] = f"file://{operator.served}"
    options[options.index("--from-block") + 1] = "0"

    # As systemd starts it, with the key that the unit names as a credential.
    text = UNIT.read_text()
    names = dict(re.findall(r"^LoadCredential=([a-z-]+):/etc/ledger/(.*)$", text, re.MULTILINE))
    assert names == {
        "guardian-key": "guardian.json",
        "guardian-passphrase": "guardian.passphrase",
        "guardian-api-key": "guardian.api-key",
    }
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    for name, secret in (("guardian-key", keystore(GUARDIAN_KEY)), ("guardian-passphrase", "words")):
        (credentials / name).write_text(secret)
        (credentials / name).chmod(0o440)
    (credentials / "guardian-api-key").write_text((etc / "guardian.api-key").read_text())
    unit = Unit((tmp_path / "etc/systemd/system/ledger-guardian.service").read_text())["Service"]
    start = unit["ExecStart"].replace("/run/", f"{tmp_path}/run/").replace("/var/lib/", f"{tmp_path}/var/lib/")
    program, *arguments = shlex.split(start)
    assert (program, arguments.pop()) == ("/opt/ledger/bin/ledger", "$GUARDIAN_OPTIONS")
    operator.deposit(ETHER)
    operator.publish([operator.leaf(1, ETHER)])
    given = {"LEDGER_RPC": operator.node.url, "CREDENTIALS_DIRECTORY": credentials}
    printed = done(*arguments, *options, "--once", **given)
    assert (tmp_path / "var/lib/ledger-guardian/1/1.json").exists()
    assert (tmp_path / "var/lib/prometheus/node-exporter/ledger-guardian.prom").exists()
    assert f"/run/{unit['RuntimeDirectory']}/" in unit["ExecStart"]
    assert f"/var/lib/{unit['StateDirectory']}" in unit["ExecStart"]
    # The page shows such lines.
    shown = [json.loads(line) for line in block("guardian", "json", '"clean"').splitlines()]
    (root,) = (line for line in map(json.loads, printed.splitlines()) if line["event"] == "root")
    assert [*root] == [*shown[0]]
    assert [name for name in shown[1] if name != "level"] == [*shown[0]]


def test_the_operators_commands_work_when_pasted(anvil: Anvil, database: Database, tmp_path: Path) -> None:
    write_key(tmp_path, PUBLISHER_KEY)
    with database.connect() as ledger:
        assert create(ledger, "ETH") == 1
    publisher, guardian = anvil.accounts[:2]
    deploying, _, opening = block("guardian", "sh", "vault deploy").partition("ledger vault open")
    settings = {"LEDGER_RPC": anvil.url, "DATABASE_URL": database.url(database.admin)}
    vault = in_shell(deploying, tmp_path, tmp_path, PUBLISHER=publisher, GUARDIAN=guardian, **settings).strip()
    in_shell(f"ledger vault open{opening}", tmp_path, tmp_path, VAULT=vault, **settings)
    printed = in_shell(block("guardian", "sh", "vault status"), tmp_path, tmp_path, VAULT=vault, **settings)
    assert "open; holds 0 ether" in printed


def test_the_way_out_works_when_pasted(operator: Operator, tmp_path: Path) -> None:
    node = operator.node
    write_key(tmp_path, PARTICIPANT_KEY)
    settings = {
        "LEDGER_RPC": node.url,
        "VAULT": operator.vault,
        "OWNER": refusing(operator),
        "ADDRESS": node.accounts[3],
    }

    def paste(script: str) -> str:
        return in_shell(script, tmp_path, tmp_path, **settings)

    operator.deposit(ETHER, owner=3)
    operator.number = 41
    leaves = [operator.leaf(7, ETHER, owner=3), {**operator.leaf(8, ETHER), "owner": settings["OWNER"]}]
    operator.publish(leaves)
    operator.served.joinpath("1").rename(tmp_path / "1")
    (tmp_path / "proof.json").write_text(json.dumps(operator.proofs[42][7]))
    node.pass_time(DELAY)
    assert "requested the exit of participant 7" in paste(block("guardian", "sh", "vault request"))
    operator.deposit(2 * ETHER, owner=4)
    node.pass_time(SILENCE)
    # For the request, or for silence: both have passed.
    printed = paste(block("guardian", "sh", "vault emergency"))
    assert "every leaf of root 42 is paid" in printed
    assert "is in an emergency" in printed
    node.finalize()
    before = node.balance(node.accounts[3])
    printed = paste(block("guardian", "sh", "vault withdraw"))
    assert "checkpoint 42 is the last ripe one\nthere is an emergency" in printed
    assert "paid 1 ether" in printed
    assert node.balance(node.accounts[3]) > before + ETHER * 99 // 100
    (all_of_them,) = re.findall(r"`(ledger vault withdraw \S+)`", page("guardian").read_text())
    key = " --key key.json --passphrase-file passphrase"
    assert "waits for ledger vault collect" in in_shell(all_of_them + key, tmp_path, tmp_path, **settings)
    node("anvil_setStorageAt", settings["OWNER"], "0x0", "0x" + "00" * 31 + "01")
    printed = paste(block("guardian", "sh", "vault reclaim"))
    assert "paid 2 ether" in printed
    assert "paid 1 ether" in printed
    assert operator.view("held", 1) == 0


def refusing(operator: Operator) -> str:
    """A contract with a deposit, which refuses ether until something is stored in it."""
    code = "600a600c600039600a6000f3" + "5f54600857" + "5f5ffd" + "5b00"
    address: str = operator.node.send(operator.node.accounts[0], None, "0x" + code)["contractAddress"]
    operator.call("deposit", 1, address, sender=4, value=ETHER)
    operator.deposits += 1
    operator.credited += ETHER
    return address
