"""`ledger vault`, as its operator and a participant use it."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from eth_account import Account

from api.proofs import verify_proof
from tests.anvil import Anvil, running
from tests.bridge.inside import command, done, refusal
from tests.bridge.operator import DELAY, ETHER, PUBLISHER_KEY, SILENCE, WINDOW, Operator, deploy, tree_of
from tests.running.commands import environment
from tests.support import Database, create, join, one

GROUPS = itertools.count(1000)  # those of the tests with a database begin at 1
KEYS = {0: PUBLISHER_KEY, 3: "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6"}  # of anvil
TIMES = ("--delay", "1h", "--window", "1h", "--silence", "8h", "--minimum", "0.01ether")

Vault = Callable[..., list[str]]


@pytest.fixture(scope="module")
def anvil() -> Iterator[Anvil]:
    with running() as node:
        yield node


@pytest.fixture(scope="module")
def vault(anvil: Anvil) -> str:
    return deploy(anvil)


@pytest.fixture
def operator(anvil: Anvil, vault: str, tmp_path: Path) -> Operator:
    return Operator(anvil, vault, next(GROUPS), tmp_path)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of keystore files by account, of which each takes a second to open as `ledger bridge key` makes them."""
    folder = tmp_path_factory.mktemp("keys")
    for number, key in KEYS.items():
        file = folder / f"{number}.json"
        file.write_text(json.dumps(Account.encrypt(key, "open sesame", kdf="pbkdf2", iterations=1000)))
        file.chmod(0o600)
    (folder / "passphrase").write_text("open sesame\n")
    (folder / "passphrase").chmod(0o600)
    return folder


@pytest.fixture
def sent(anvil: Anvil, keys: Path) -> Vault:
    """The words of a command that an account sends."""

    def words(*given: object, account: int = 3) -> list[str]:
        key = ["--key", str(keys / f"{account}.json"), "--passphrase-file", str(keys / "passphrase")]
        return ["vault", *map(str, given), "--rpc", anvil.url, *key]

    return words


@pytest.fixture
def proof(operator: Operator, tmp_path: Path) -> Callable[[int], Path]:
    """Write the proof of a participant in the newest root."""

    def write(participant: int) -> Path:
        file = tmp_path / f"proof-{participant}.json"
        file.write_text(json.dumps(operator.proofs[operator.number][participant]))
        return file

    return write


def test_deploys_a_vault_and_prints_its_address(anvil, sent):
    publisher, guardian = anvil.accounts[:2]
    ends = ("--publisher", publisher, "--guardian", guardian)
    address = done(*sent("deploy", *ends, *TIMES)).strip()
    node = Operator(anvil, address, 1, Path())
    assert [node.view(name) for name in ("DELAY", "WINDOW", "SILENCE", "MINIMUM")] == [3600, 3600, 28800, ETHER // 100]
    assert [node.view(name).lower() for name in ("publisher", "guardian")] == [publisher, guardian]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"--guardian": "publisher"}, "two keys"),
        ({"--silence": "7h"}, "four times"),
        ({"--minimum": "0wei"}, "--minimum"),
        ({"--minimum": "1"}, "is not an amount"),
        ({"--minimum": "0.1wei"}, "is not an amount"),
        ({"--delay": "0s"}, "is not a length of time"),
        ({"--publisher": "0x12"}, "is not an address"),
    ],
)
def test_refuses_terms_that_the_vault_would_refuse(anvil, sent, change, said):
    publisher, guardian = anvil.accounts[:2]
    terms = {"--publisher": publisher, "--guardian": guardian, **dict(zip(TIMES[::2], TIMES[1::2], strict=True))}
    terms |= {name: publisher if value == "publisher" else value for name, value in change.items()}
    before = anvil.number()
    failed = command(*sent("deploy", *(word for pair in terms.items() for word in pair)))
    assert failed.returncode in (1, 2)
    assert said in failed.stderr
    assert anvil.number() == before


def test_opens_a_group_and_links_it(anvil, vault, sent, database: Database):
    with database.connect() as ledger:
        group = create(ledger, "ETH")
    settings = {"DATABASE_URL": database.url(database.admin)}
    assert "opened group" in done(*sent("open", group, "--vault", vault, account=0), **settings)
    with database.connect(database.admin) as admin:
        linked = one(admin, "select vault, chain_id from ledger.vaults where group_id = %s", [group])
    assert (f"0x{bytes(linked[0]).hex()}", linked[1]) == (vault.lower(), 31337)
    # Again; and what needs no --vault, since the database has it.
    assert "is open" in done(*sent("open", group, "--vault", vault, account=0), **settings)
    shown = json.loads(done("vault", "status", group, "--json", "--rpc", anvil.url, **settings))
    assert (shown["group_id"], shown["is_open"], shown["held"]) == (group, True, "0")
    assert done("vault", "status", "--rpc", anvil.url, **settings).startswith(f"group {group} in vault {vault}")
    assert "closed group" in done(*sent("close", group, account=0), **settings)
    shown = json.loads(done("vault", "status", group, "--json", "--rpc", anvil.url, **settings))
    assert not shown["is_open"]


def test_opens_nothing_for_another_key_or_a_group_that_is_in_use(anvil, vault, sent, database: Database):
    with database.connect() as ledger:
        group = create(ledger, "ETH")
        join(ledger, group, "alice")
    settings = {"DATABASE_URL": database.url(database.admin)}
    assert "the publisher of" in refusal(*sent("open", group, "--vault", vault), **settings)
    assert "say which vault" in refusal(*sent("open", group, account=0), **settings)
    elsewhere = anvil.accounts[4]
    assert "is not that of this release" in refusal(*sent("open", group, "--vault", elsewhere, account=0), **settings)
    before = anvil.number()
    refusal(*sent("open", group, "--vault", vault, account=0), **settings)
    assert anvil.number() == before


def test_closes_no_group_that_holds_something(operator, sent):
    operator.deposit(ETHER // 2)
    said = refusal(*sent("close", operator.group, "--vault", operator.vault, account=0))
    assert "holds 0.5 ether" in said


def test_shows_each_time_of_a_root(operator, anvil):
    def shown() -> dict:
        words = ("status", operator.group, "--vault", operator.vault, "--json", "--rpc", anvil.url)
        return json.loads(done("vault", *map(str, words)))

    assert (shown()["stage"], shown()["emergency_at"], shown()["latest"]) == ("none", None, None)
    operator.deposit(3 * ETHER)
    filled = shown()
    assert (filled["held"], filled["deposits"], filled["deposited"]) == (str(3 * ETHER), 1, str(3 * ETHER))
    assert filled["emergency_at"] == operator.view("filled_at", operator.group) + SILENCE
    operator.publish([operator.leaf(1, 3 * ETHER, exit_entry=5)])
    young = shown()
    assert (young["stage"], young["latest"]["number"], young["ripe"]) == ("young", 1, None)
    assert young["latest"]["ripe_at"] - young["latest"]["published_at"] == DELAY
    anvil.pass_time(DELAY)
    ripe = shown()
    assert (ripe["stage"], ripe["ripe"]) == ("open", young["latest"])
    assert ripe["emergency_at"] == young["latest"]["published_at"] + SILENCE
    anvil.pass_time(WINDOW)
    assert shown()["stage"] == "ended"
    text = done("vault", "status", str(operator.group), "--vault", operator.vault, "--rpc", anvil.url)
    assert "open; holds 3 ether, has paid 0 ether" in text
    assert "last ripe root: 1" in text
    assert "includes 1 of 1 deposits" in text
    assert "emergency for silence" in text


def test_shows_all_groups_of_a_vault(operator, anvil):
    words = ("vault", "status", "--vault", operator.vault, "--json", "--rpc", anvil.url)
    groups = [json.loads(line)["group_id"] for line in done(*words).splitlines()]
    assert operator.group in groups
    assert len(groups) == len(set(groups))


def test_a_participant_requests_an_exit_and_declares_an_emergency_without_an_answer(operator, anvil, sent, proof):
    operator.deposit(2 * ETHER, owner=3)
    operator.publish([operator.leaf(1, 2 * ETHER, owner=3)])
    file = proof(1)
    assert "is not the last ripe root" in refusal(*sent("request", file))
    anvil.pass_time(DELAY)
    assert "belongs to" in refusal(*sent("request", file, account=0))
    said = done(*sent("request", file))
    assert "requested the exit of participant 1" in said
    words = ("vault", "status", operator.group, "--vault", operator.vault, "--rpc", anvil.url)
    assert "exit requested by participant 1 (0x90F79bf6EB2c4f870365E785982E1f101E93b906)" in done(*map(str, words))
    (request,) = json.loads(done(*map(str, words), "--json"))["requests"]
    assert request["emergency_at"] - request["at"] == SILENCE
    declare = sent("emergency", operator.group, "--vault", operator.vault, "--request", file)
    assert "can be declared from" in refusal(*declare)
    # The operator is not silent, and still does not answer.
    anvil.pass_time(WINDOW)
    for _ in range(SILENCE // (DELAY + WINDOW) + 1):
        operator.cycle([operator.leaf(1, 2 * ETHER, owner=3)])
    assert "can be declared from" in refusal(*sent("emergency", operator.group, "--vault", operator.vault))
    printed = done(*declare)
    assert f"every leaf of root {operator.number} is paid" in printed
    assert "is in an emergency" in done(*declare)
    before = anvil.balance(anvil.accounts[3])
    assert "paid 2 ether" in done(*sent("withdraw", proof(1), account=0))
    assert anvil.balance(anvil.accounts[3]) == before + 2 * ETHER
    assert operator.view("held", operator.group) == 0


def test_everybody_is_paid_by_a_snapshot_and_deposits_are_returned(operator, anvil, sent, proof):
    for owner in range(2, 9):
        operator.deposit(owner * ETHER, owner=owner)
    leaves = [operator.leaf(owner, owner * ETHER, owner=owner) for owner in range(2, 9)]
    operator.publish([*leaves[:-1], leaves[-1] | {"exit_entry": 9}])
    snapshot = operator.served / str(operator.group) / "1.json"
    anvil.pass_time(DELAY)
    operator.deposit(ETHER, owner=6)
    operator.deposit(2 * ETHER, owner=7)
    assert "is not in an emergency" in refusal(*sent("reclaim", operator.group, "--vault", operator.vault))
    assert "no leaf in" in refusal(*sent("withdraw", proof(2)))
    # The exit alone, in its window.
    printed = done(*sent("withdraw", snapshot))
    assert printed.count("paid ") == 1
    assert "paid 8 ether" in printed
    assert "can be declared from" in refusal(*sent("emergency", operator.group, "--vault", operator.vault))
    anvil.pass_time(SILENCE)
    done(*sent("emergency", operator.group, "--vault", operator.vault))
    printed = done(*sent("withdraw", snapshot))
    assert sorted(line.split()[1] for line in printed.splitlines()) == list("234567")
    assert "no leaf in" in refusal(*sent("withdraw", snapshot))
    assert "was never made" in refusal(*sent("reclaim", operator.group, "--vault", operator.vault, "--deposit", 6))
    one_of_them = done(*sent("reclaim", operator.group, "--vault", operator.vault, "--deposit", 8))
    assert "paid 2 ether" in one_of_them
    assert "paid 1 ether" in done(*sent("reclaim", operator.group, "--vault", operator.vault))
    assert "no deposit can be returned" in refusal(*sent("reclaim", operator.group, "--vault", operator.vault))
    assert operator.view("held", operator.group) == 0
    assert "holds nothing" in refusal(*sent("emergency", next(GROUPS), "--vault", operator.vault))


def test_collects_what_an_address_has_refused(operator, anvil, vault, sent):
    said = refusal(*sent("collect", anvil.accounts[5], "--vault", vault))
    assert "owes nothing" in said
    # A contract that refuses ether until something is stored in it.
    code = "600a600c600039600a6000f3" + "5f54600857" + "5f5ffd" + "5b00"
    receiver = anvil.send(anvil.accounts[0], None, "0x" + code)["contractAddress"]
    operator.call("deposit", operator.group, receiver, sender=4, value=ETHER)
    operator.deposits, operator.credited = 1, ETHER
    leaf = {"participant_id": 1, "exit_entry": 3, "owner": receiver, "amount": str(ETHER)}
    operator.publish([leaf])
    anvil.pass_time(DELAY)
    printed = done(*sent("withdraw", operator.served / str(operator.group) / "1.json"))
    assert "waits for ledger vault collect" in printed
    anvil("anvil_setStorageAt", receiver, "0x0", "0x" + "00" * 31 + "01")
    assert "paid 1 ether" in done(*sent("collect", receiver, "--vault", vault))
    assert anvil.balance(receiver) == ETHER


def test_refuses_files_that_prove_nothing(operator, anvil, sent, proof, tmp_path):
    operator.deposit(ETHER, owner=3)
    snapshot = operator.publish([operator.leaf(1, ETHER, owner=3)])
    file = proof(1)
    forged = json.loads(file.read_text())
    forged["leaf"]["amount"] = str(2 * ETHER)
    file.write_text(json.dumps(forged))
    assert "proves nothing" in refusal(*sent("withdraw", file))
    assert "cannot read" in refusal(*sent("withdraw", tmp_path / "missing"))
    file.write_text(json.dumps(snapshot))
    assert "is not the last ripe root" in refusal(*sent("withdraw", file))
    kept = operator.served / str(operator.group) / "2.json"
    operator.serve(operator.snapshot([operator.leaf(1, ETHER // 2), operator.leaf(2, ETHER // 2)]))
    assert "make a proof of it" in refusal(*sent("request", kept))
    other = operator.snapshot([operator.leaf(1, ETHER)])
    other["checkpoint"]["chain_id"] = 1
    other["checkpoint"] |= tree_of(other["checkpoint"], other["leaves"])
    file.write_text(json.dumps(other))
    assert "of chain 1" in refusal(*sent("withdraw", file))


def test_says_in_one_line_what_is_missing(anvil, vault, keys, sent, tmp_path):
    status = ("vault", "status", "1", "--vault", vault)
    for words, said in (
        (status, "say which node to ask"),
        ((*status, "--rpc", "http://127.0.0.1:1"), "does not answer"),
        (("vault", "close", "1", "--vault", vault, "--rpc", anvil.url), "say which key"),
        ((*status[:3], "--vault", anvil.accounts[5], "--rpc", anvil.url), "returned something else"),
    ):
        assert said in refusal(*words)
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("another")
    passphrase.chmod(0o600)
    key = ["--key", str(keys / "0.json"), "--passphrase-file", str(passphrase)]
    words = ["vault", "close", "1", "--vault", vault, "--rpc", anvil.url, *key]
    assert "is not that of" in refusal(*words)


def test_without_web3_it_says_in_one_line_how_to_install_it(vault, tmp_path):
    code = "import sys; sys.modules['web3'] = None; from api.cli import main; main(sys.argv[1:])"
    guardian = ["guardian", "--vault", vault, "--snapshots", "file:///x", "--folder", str(tmp_path)]
    for words in (["vault", "status", "1", "--vault", vault], guardian):
        said = subprocess.run([sys.executable, "-c", code, *words], env=environment(), capture_output=True, text=True)
        assert (said.returncode, said.stdout) == (1, "")
        (line,) = said.stderr.splitlines()
        assert line.startswith(f"ledger: ledger {words[0]} needs web3")


def test_the_file_that_can_be_copied_away_agrees_with_the_vault(operator, anvil, proof):
    """verify_proof.py --rpc, against a node and a vault."""
    operator.deposit(ETHER)
    operator.publish([operator.leaf(1, ETHER, exit_entry=4)])
    file = proof(1)

    def shown() -> tuple[int, str]:
        words = ["python3", verify_proof.__file__, file, "--rpc", anvil.url, "--vault", operator.vault]
        ended = subprocess.run(words, capture_output=True, text=True, timeout=60)
        return ended.returncode, ended.stdout + ended.stderr

    assert "was vetoed, or not published" in shown()[1]  # not in a final block
    anvil.finalize()
    assert "is not ripe yet" in shown()[1]
    anvil.pass_time(DELAY)
    anvil.finalize()
    status, printed = shown()
    assert status == 0
    assert "checkpoint 1 is the last ripe one\nthere is no emergency\nthis leaf was not paid\n" in printed
    operator.withdraw(1)
    assert "this leaf was not paid" in shown()[1]  # not in a final block
    anvil.finalize()
    assert "this leaf was paid" in shown()[1]
    anvil.pass_time(WINDOW)
    operator.deposit(ETHER)
    operator.cycle([operator.leaf(2, ETHER)])
    anvil.finalize()
    assert "is older" in shown()[1]
    anvil.pass_time(SILENCE)
    operator.call("declare_emergency", operator.group, sender=4)
    file = proof(2)
    anvil.finalize()
    assert "there is an emergency" in shown()[1]
