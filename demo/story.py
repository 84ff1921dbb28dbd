"""The story of `make demo`, as what happens to it on the chain and in the ledger."""

from __future__ import annotations

from bridge import contract
from bridge.chain import Node
from bridge.keys import read_key
from bridge.signer import GWEI, Signer
from bridge.status import ether
from demo.stage import Stage

ETHER = 10**18
HOUR = 3_600
DELAY, WINDOW, SILENCE = HOUR, HOUR, 24 * HOUR
# Accounts of the chain, which have ether.
PEOPLE = {"alice": 2, "bob": 3, "carol": 4, "dora": 5}


def play(stage: Stage) -> None:
    """Carry out each step, and print what has come of it."""
    people = {name: stage.node.accounts[number] for name, number in PEOPLE.items()}
    deploy(stage)
    deposits(stage, people)
    transfer_and_exit(stage, people)
    veto(stage)
    way_out(stage, people)


def deploy(stage: Stage) -> None:
    chapter("The vault")
    terms = ("--delay", "1h", "--window", "1h", "--silence", "24h", "--minimum", "0.01ether")
    keys = ("--publisher", stage.addresses["publisher"], "--guardian", stage.addresses["guardian"])
    stage.vault = stage.run("vault", "deploy", *keys, *terms, key="publisher")
    line(f"vault {stage.vault} is deployed")
    line("a root is ripe after 1 h, and its exits are paid for 1 h; after 24 h of silence there is an emergency")
    stage.start("service", "serve", "--port", stage.port, "--log", "faults")
    stage.until(stage.answers, "the service")
    stage.group = int(stage.ask("POST", "/groups", {"name": "Demo"})["id"])
    stage.run("vault", "open", stage.group, "--vault", stage.vault, key="publisher")
    line(f"group {stage.group} of the ledger is linked to it, and open")


def deposits(stage: Stage, people: dict[str, str]) -> None:
    chapter("Deposits")
    for name, wei in (("alice", ETHER), ("bob", ETHER), ("carol", 2 * ETHER)):
        stage.deposit(people[name], wei)
        line(f"{name} deposits {ether(wei)}")
    publisher = stage.key("publisher", "--publisher-key", "--publisher-passphrase")
    payer = stage.key("payer", "--payer-key", "--payer-passphrase")
    stage.start("bridge", "bridge", *publisher, *payer, "--every", "1s")
    source = ("--snapshots", f"http://127.0.0.1:{stage.port}", "--folder", stage.mirror)
    stage.start("guardian", "guardian", "--vault", stage.vault, *source, *stage.key("guardian"), "--every", "1s")
    stage.until(lambda: len(stage.participants()) == 3, "the deposits to be credited")
    line(f"once they are final, the bridge has credited {balances(stage, people)}")
    root(stage, 1)
    holds(stage)


def transfer_and_exit(stage: Stage, people: dict[str, str]) -> None:
    chapter("Transfer and exit")
    found = {name: stage.participants()[people[name]] for name in ("alice", "bob", "carol")}
    transfer = {"from": found["bob"]["id"], "to": found["alice"]["id"], "amount": str(ETHER // 2)}
    stage.ask("POST", f"/groups/{stage.group}/transfer", transfer)
    line(f"bob transfers {ether(ETHER // 2)} to alice in the ledger: {balances(stage, people)}")
    stage.ask("DELETE", f"/groups/{stage.group}/participants/{found['alice']['id']}")
    line("alice leaves, and has to be paid on the chain")
    before = stage.node.balance(people["alice"])
    stage.pass_time(WINDOW)
    line("the window of root 1 ends")
    root(stage, 2)
    stage.until(lambda: stage.node.balance(people["alice"]) > before, "the payment")
    line(f"the bridge has alice paid by the vault: {ether(stage.node.balance(people['alice']) - before)} on the chain")
    holds(stage)


def root(stage: Stage, number: int) -> None:
    """Wait for a root and for the guardian, and let it ripen."""
    stage.until(lambda: stage.latest() == number, f"root {number}")
    line(f"the bridge publishes root {number}, a commitment to what everybody holds")
    stage.until(lambda: stage.mirrored(number), "the guardian")
    line(f"the guardian has all its leaves, finds them clean, and keeps them; root {number} ripens")
    stage.pass_time(DELAY)


def veto(stage: Stage) -> None:
    chapter("Veto")
    stage.until(lambda: settled(stage), "the payment to be settled")
    stage.stop("bridge")
    stage.pass_time(WINDOW)
    # The total is what the vault holds, so that the vault takes it; whose the leaves are, nobody is shown.
    header, deposits = stage.view("latest", stage.group)[1:3]
    credited = stage.view("cumulative", stage.group, deposits)
    paid = stage.view("paid", stage.group)
    forged = (stage.group, 3, octets(header), deposits, credited, paid, 1, credited - paid, b"\x66" * 32)
    operator(stage).carry_out(stage.vault, contract.call_data("publish", forged))
    line("the operator publishes root 3, which may give everything to anybody, and shows its leaves to nobody")
    stage.until(lambda: "attempt_failed" in [one["event"] for one in stage.log("guardian")], "the guardian to ask")
    stage.pass_time(DELAY // 2)
    stage.until(lambda: stage.latest() == 2, "the veto")
    found = next(one for one in stage.log("guardian") if one.get("outcome") == "withheld")
    line(f"the guardian vetoes it: root {found['number']} is {found['outcome']}; root 2 is the last ripe one again")


def settled(stage: Stage) -> bool:
    """Whether the bridge has recorded the payment."""
    (entry,) = stage.ask("GET", f"/groups/{stage.group}/entries?kind=exit")
    return entry["reference"] is not None


def way_out(stage: Stage, people: dict[str, str]) -> None:
    chapter("The way out")
    stage.deposit(people["dora"], 7 * ETHER // 10)
    line(f"dora deposits {ether(7 * ETHER // 10)}, which no root includes")
    ids = {name: int(stage.participants()[people[name]]["id"]) for name in ("bob", "carol")}
    stage.stop("service")
    line("the operator stops: no service, no bridge, no database")
    stage.pass_time(SILENCE)
    stage.run("vault", "emergency", stage.group, "--vault", stage.vault, key="guardian")
    line("24 h later anybody declares an emergency: every leaf of root 2 is paid")
    snapshot = stage.mirrored(2)
    proof = stage.folder / "proof.json"
    proof.write_text(stage.run("proof", stage.group, ids["bob"], "--snapshot", snapshot))
    line("bob makes a proof of the leaves that the guardian has kept")
    stage.until(lambda: stage.finalized("emergency", stage.group), "the emergency to be final")
    checked = stage.run("verify-proof", proof, "--rpc", stage.node.url, "--vault", stage.vault).splitlines()
    line(f"ledger verify-proof: {checked[2]}; {checked[4]}")
    paid(stage, people, "bob", "withdraw", proof)
    paid(stage, people, "carol", "withdraw", snapshot or proof)
    paid(stage, people, "dora", "reclaim", stage.group, "--vault", stage.vault)
    stage.stop("guardian")
    print(f"vault holds {ether(stage.view('held', stage.group)).removesuffix(' ether')}", flush=True)


def paid(stage: Stage, people: dict[str, str], name: str, *words: object) -> None:
    before = stage.node.balance(people[name])
    stage.run("vault", *words, key="guardian")
    line(f"ledger vault {words[0]}: {name} is paid {ether(stage.node.balance(people[name]) - before)}")


def operator(stage: Stage) -> Signer:
    node = Node(stage.node.url)
    account = read_key(stage.folder / "publisher.json", stage.folder / "passphrase")
    return Signer(node, account, node.chain_id(), 100 * GWEI)


def balances(stage: Stage, people: dict[str, str]) -> str:
    names = {address: name for name, address in people.items()}
    return ", ".join(f"{names[one]} {ether(int(found['amount']))}" for one, found in stage.participants().items())


def holds(stage: Stage) -> None:
    line(f"the vault holds {ether(stage.view('held', stage.group))}")


def octets(value: str) -> bytes:
    return bytes.fromhex(value.removeprefix("0x"))


def chapter(name: str) -> None:
    print(f"{name}", flush=True)


def line(text: str) -> None:
    print(f"  {text}", flush=True)
