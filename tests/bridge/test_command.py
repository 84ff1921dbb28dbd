"""`ledger bridge` as operators run it: what it refuses, how it halts, how it ends, and that a kill loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from bridge import bind
from bridge.halts import EXIT_STATUS
from tests.bridge.proxy import Proxy, proxying
from tests.bridge.world import BRIDGE, DELAY, ETHER, OTHER, PAYER, PUBLISHER, WINDOW, World
from tests.running.commands import LEDGER, PATIENCE, command, done, environment, refusal
from tests.support import one

PASSPHRASE = "a passphrase that nobody may see"


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Path]:
    """Keystore files of the publisher, the payer and another one, and the file of their passphrase."""
    files = {"passphrase": tmp_path / "passphrase"}
    files["passphrase"].write_text(PASSPHRASE)
    for name, account in (("publisher", PUBLISHER), ("payer", PAYER), ("other", OTHER)):
        files[name] = tmp_path / f"{name}.json"
        keystore = Account.encrypt(account.key, PASSPHRASE, kdf="scrypt", iterations=2)
        files[name].write_text(json.dumps(keystore))
    for path in files.values():
        path.chmod(0o600)
    return files


@pytest.fixture
def settings(world: World) -> dict[str, str]:
    return {"DATABASE_URL": world.database.url(BRIDGE), "LEDGER_RPC": world.node.url}


def options(keys: dict[str, Path], *more: str, publisher: str = "publisher") -> list[str]:
    return [
        *("bridge", "--publisher-key", str(keys[publisher]), "--publisher-passphrase", str(keys["passphrase"])),
        *("--payer-key", str(keys["payer"]), "--payer-passphrase", str(keys["passphrase"]), *more),
    ]


def lines(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_one_round_credits_and_publishes(world: World, keys: dict[str, Path], settings: dict[str, str]) -> None:
    world.deposit(world.alice, ETHER)
    world.node.finalize()
    said = command(*options(keys, "--once"), **settings)
    assert said.returncode == 0, said.stderr
    events = lines(said.stdout)
    assert [line["event"] for line in events] == ["started", "followed", "transaction_sent"]
    assert events[0]["publisher"] == PUBLISHER.address
    assert [*world.balances().values()] == [ETHER]
    # Neither the log nor the process shows a secret.
    for secret in (PASSPHRASE, PUBLISHER.key.hex(), PAYER.key.hex()):
        assert secret not in said.stdout + said.stderr


def test_the_administrator_becomes_the_bridge(world: World, keys: dict[str, Path], settings: dict[str, str]) -> None:
    settings = settings | {"LEDGER_ADMIN_URL": world.database.url(world.database.admin)}
    world.deposit(world.alice, ETHER)
    world.node.finalize()
    done(*options(keys, "--once"), **settings)
    assert [*world.balances().values()] == [ETHER]


def test_another_login_is_refused(world: World, keys: dict[str, Path], settings: dict[str, str]) -> None:
    settings["DATABASE_URL"] = world.database.url(world.database.service)
    assert "no member of ledger_bridge" in refusal(*options(keys, "--once"), **settings)


def test_a_key_that_others_may_read_is_refused(keys: dict[str, Path], settings: dict[str, str]) -> None:
    keys["publisher"].chmod(0o644)
    assert "has mode 0644" in refusal(*options(keys, "--once"), **settings)


def test_another_passphrase_is_refused(keys: dict[str, Path], settings: dict[str, str]) -> None:
    keys["passphrase"].write_text("another one")
    said = refusal(*options(keys, "--once"), **settings)
    assert "is not that of" in said
    assert "another one" not in said


def test_what_is_missing_is_refused(keys: dict[str, Path], settings: dict[str, str]) -> None:
    assert "--publisher-key" in refusal("bridge", "--once", **settings)
    assert "--publisher-passphrase" in refusal("bridge", "--publisher-key", str(keys["publisher"]), **settings)
    assert "--rpc" in refusal(*options(keys, "--once"), DATABASE_URL=settings["DATABASE_URL"])
    publisher = options(keys, "--once")[:5]
    assert "--payer-key" in refusal(*publisher, **settings)
    assert "--no-payer" in refusal(*options(keys, "--no-payer", "--once"), **settings)
    assert "--metrics-file" in refusal(*options(keys, "--metrics-file", "/nowhere/ledger.prom"), **settings)


@pytest.mark.parametrize(
    "wrong",
    [
        ("--max-fee", "0"),
        ("--max-fee", "1.0000000001"),
        ("--pay-from", "1.5"),
        ("--every", "0s"),
        ("--guardian", "0x12"),
        ("--confirmations", "-1"),
    ],
)
def test_an_option_that_is_none_is_refused(wrong: tuple[str, str], settings: dict[str, str]) -> None:
    assert wrong[0] in refusal("bridge", *wrong, status=2, **settings)


def test_without_web3_it_says_in_one_line_how_to_install_it(settings: dict[str, str]) -> None:
    code = "import sys; sys.modules['web3'] = None; from api.cli import main; main(sys.argv[1:])"
    for words in (["--once"], ["adopt", "1", "--snapshot", "x"], ["key", "x", "--passphrase", "y"]):
        said = subprocess.run(
            [sys.executable, "-c", code, "bridge", *words],
            env=environment(**settings),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert said.returncode == 1
        (line,) = said.stderr.splitlines()
        assert line.startswith("ledger: ledger bridge needs web3")
        assert "pip install 'ledger[bridge]'" in line
    # And no other command needs it.
    with_it = [sys.executable, "-c", code.replace("main(sys.argv[1:])", "main(['--version'])")]
    assert subprocess.run(with_it, capture_output=True, timeout=PATIENCE).returncode == 0


def test_another_publisher_halts_with_a_status_of_its_own(keys: dict[str, Path], settings: dict[str, str]) -> None:
    said = command(*options(keys, "--once", publisher="other"), **settings)
    assert said.returncode == EXIT_STATUS
    line = lines(said.stderr)[-1]
    assert (line["event"], line["reason"], line["level"]) == ("halted", "wrong_key", "error")


def test_a_made_key_is_printed_as_its_address(tmp_path: Path, keys: dict[str, Path]) -> None:
    path = tmp_path / "made.json"
    address = done("bridge", "key", path, "--passphrase", keys["passphrase"]).strip()
    assert address[2:].lower() == json.loads(path.read_text())["address"].removeprefix("0x").lower()


def test_a_signature_is_asked_for_and_checked(world: World, settings: dict[str, str]) -> None:
    query = "select id from ledger.join_group(%s, 'erin', 0, address => %s)"
    (participant,) = one(world.ledger, query, [world.group, OTHER.address])
    words = ["bridge", "bind", str(world.group), str(participant), OTHER.address]
    text = done(*words, **settings).removesuffix("\n")
    assert text == bind.message(world.view("domain", world.group), participant)
    signature = bytes(Account.sign_message(encode_defunct(text=text), OTHER.key).signature).hex()
    assert done(*words, "--signature", f"0x{signature}", **settings) == f"{OTHER.address}\n"
    wrong = bytes(Account.sign_message(encode_defunct(text=text), PAYER.key).signature).hex()
    assert "has not signed" in refusal(*words, "--signature", wrong, **settings)
    assert "65 bytes" in refusal(*words, "--signature", "12", status=2, **settings)


def test_a_restored_group_is_adopted(world: World, settings: dict[str, str], tmp_path: Path) -> None:
    world.deposit(world.alice, ETHER)
    world.node.finalize()
    world.settle_down(2)
    file = tmp_path / "snapshot.json"
    file.write_text(json.dumps(world.snapshot(1)))
    words = ["bridge", "adopt", str(world.group), "--snapshot", str(file)]
    assert "nothing to adopt" in done(*words, **settings)
    assert "nothing to adopt" in done(*words, "--rpc", world.node.url, DATABASE_URL=settings["DATABASE_URL"])
    assert "say which node" in refusal(*words, DATABASE_URL=settings["DATABASE_URL"])
    world.node.pass_time(DELAY + WINDOW)


@pytest.fixture
def proxy(world: World) -> Iterator[Proxy]:
    with proxying(world.node.url) as proxy:
        yield proxy


@pytest.mark.parametrize("delivered", [True, False], ids=["after it was sent", "before it was sent"])
def test_a_kill_loses_and_repeats_nothing(
    world: World, keys: dict[str, Path], settings: dict[str, str], proxy: Proxy, delivered: bool
) -> None:
    world.deposit(world.alice, ETHER)
    world.node.finalize()
    killed = threading.Event()

    def kill(method: str, parameters: list[Any], result: Any) -> Any:
        """Kill the bridge while it waits for the answer to its first transaction."""
        if method == "eth_sendRawTransaction" and not killed.is_set():
            os.kill(process.pid, signal.SIGKILL)
            killed.set()
        return result

    if delivered:
        proxy.alter = kill
    else:
        proxy.before = kill
    with subprocess.Popen(
        [LEDGER, *options(keys, "--once", "--rpc", proxy.url)],
        env=environment(**settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.wait(PATIENCE) == -signal.SIGKILL
    assert killed.is_set()
    done(*options(keys, "--once"), **settings)
    world.node.finalize()
    done(*options(keys, "--once"), **settings)
    assert world.states() == ["accepted"]
    assert [*world.balances().values()] == [ETHER]
    assert world.admin.execute("select nonce, succeeded from ledger.bridge_transactions").fetchall() == [(2, True)]


def test_sigterm_ends_it(world: World, keys: dict[str, Path], settings: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "bridge.prom"
    words = options(keys, "--every", "1h", "--metrics-file", str(file))
    with subprocess.Popen(
        [LEDGER, *words], env=environment(**settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["event"] == "started"
            process.terminate()
            assert process.wait(PATIENCE) == 0
            assert process.stderr is not None
            assert process.stderr.read() == ""
        finally:
            process.kill()
