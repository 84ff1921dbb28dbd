"""`ledger vault`: deploy, open and close for the operator; status for everybody; the way out for a participant.

A participant needs a proof, a node and a key. Any wallet can do the same.
"""

import argparse
import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address

from api.proofs.verify_proof import InvalidProof
from bridge import claims, contract, ledger
from bridge.chain import Node
from bridge.claims import Claim, Claims
from bridge.contract import Log, Root
from bridge.halts import Halt, Later, Refusal
from bridge.run import IMMUTABLES
from bridge.signer import Signer, opened_key
from bridge.status import at, ether, read_status

Database = Callable[[], AbstractContextManager[str]]  # the connection string of an administrator or the bridge

CONSTRUCTOR = ["address", "address", "uint256", "uint256", "uint256", "uint256"]
MANY = 20  # leaves that one transaction pays
# A receiver may use more gas when it is paid than when the node estimates it.
GAS, GAS_OF_LEAF = 300_000, 220_000
LATEST = "latest"


def run(options: argparse.Namespace, database: Database) -> int:
    """Carry out an action, and return the exit status. Raises Refusal and psycopg.Error."""
    if not options.rpc:
        raise Refusal("say which node to ask: --rpc")
    actions: dict[str, Callable[[Node, argparse.Namespace, Database], None]] = {
        "deploy": deploy,
        "open": open_group,
        "close": close_group,
        "status": status,
        "request": request,
        "withdraw": withdraw,
        "emergency": emergency,
        "reclaim": reclaim,
        "collect": collect,
    }
    try:
        actions[options.action](Node(options.rpc), options, database)
    except (Halt, Later) as error:
        raise Refusal(str(error)) from None
    return 0


def deploy(node: Node, options: argparse.Namespace, database: Database) -> None:
    """Make a vault, and print its address alone to the standard output."""
    publisher, guardian = to_checksum_address(options.publisher), to_checksum_address(options.guardian)
    if publisher == guardian:
        raise Refusal("publisher and guardian must be two keys, of two people")
    if 4 * (options.delay + options.window) > options.silence:
        raise Refusal("--silence must be at least four times --delay and --window together")
    if not options.minimum:
        raise Refusal("--minimum must be more than nothing: dust costs more to pay than it is worth")
    signer = signing(node, options)
    terms = [publisher, guardian, options.delay, options.window, options.silence, options.minimum]
    receipt = signer.carry_out(None, contract.artifact()["bytecode"] + encode(CONSTRUCTOR, terms).hex())
    vault = to_checksum_address(receipt["contractAddress"])
    check_code(node, vault)
    note(f"deployed in block {int(receipt['blockNumber'], 16)}, transaction {receipt['transactionHash']}")
    print(vault)


def open_group(node: Node, options: argparse.Namespace, database: Database) -> None:
    """Link a group to a vault in the database, then open it at the vault. A repeat does what is missing."""
    if options.vault is None:
        raise Refusal("say which vault: --vault")
    vault = to_checksum_address(options.vault)
    signer = signing(node, options)
    check_code(node, vault)
    check_publisher(node, vault, signer)
    # First: a deposit into a group that is not linked would wait for ever.
    with database() as conninfo:
        session = ledger.connect(conninfo)
        try:
            session.row("link_vault", options.group, signer.chain_id, vault)
        finally:
            session.close()
    if node.call(vault, "is_open", options.group, at=LATEST):
        print(f"group {options.group} is open in {vault}")
        return
    receipt = signer.carry_out(vault, contract.call_data("open", options.group))
    print(f"opened group {options.group} in {vault}, transaction {receipt['transactionHash']}")


def close_group(node: Node, options: argparse.Namespace, database: Database) -> None:
    vault = vault_of(options, database)
    signer = signing(node, options)
    check_publisher(node, vault, signer)
    held = node.call(vault, "held", options.group, at=LATEST)
    if held:
        raise Refusal(f"group {options.group} holds {ether(held)}: everybody has to be paid first")
    receipt = signer.carry_out(vault, contract.call_data("close", options.group))
    print(f"closed group {options.group} in {vault}, transaction {receipt['transactionHash']}")


def status(node: Node, options: argparse.Namespace, database: Database) -> None:
    """Print the state of a group, or of all that the database has; without a database, of all of a vault."""
    if options.group is not None:
        pairs = [(vault_of(options, database), options.group)]
    elif options.vault is not None:
        vault = str(to_checksum_address(options.vault))
        opened = node.logs(vault, options.from_block or 0, node.latest().number)
        pairs = [(vault, int(log.values["group"])) for log in opened if log.name == "Opened"]
    else:
        pairs = [(str(row.vault), int(row.group_id)) for row in rows(database, "list_vaults")]
    for vault, group in pairs:
        found = read_status(node, vault, group, options.from_block)
        print(json.dumps(found.as_json()) if options.json else "\n".join(found.lines()), flush=True)


def request(node: Node, options: argparse.Namespace, database: Database) -> None:
    """Request the exit of the participant whose proof and key are given."""
    found = read_claims(options.file)
    (claim,) = single(found, options.file)
    signer = signing(node, options)
    vault = check_chain(node, found, signer.chain_id)
    owner = to_checksum_address(claim.leaf.owner)
    if owner != signer.address:
        raise Refusal(f"the leaf belongs to {owner}, and the key is that of {signer.address}")
    if claim.leaf.exit_entry:
        raise Refusal(f"participant {claim.leaf.participant} has left: their exit is paid in the window of a root")
    check_ripe(node, vault, found)
    receipt = signer.carry_out(vault, contract.call_data("request_exit", found.header, *claim.arguments()))
    silence = int(node.call(vault, "SILENCE", at=LATEST))
    since = int(node.call(vault, "requested", found.checkpoint.group, claim.leaf.participant, owner, at=LATEST))
    print(f"requested the exit of participant {claim.leaf.participant}, transaction {receipt['transactionHash']}")
    print(f"without an answer, an emergency can be declared from {at(since + silence)} on")


def withdraw(node: Node, options: argparse.Namespace, database: Database) -> None:
    """Have the leaves of a proof or a snapshot paid, as far as they can be paid now."""
    found = read_claims(options.file)
    signer = signing(node, options)
    vault = check_chain(node, found, signer.chain_id)
    group, number = found.checkpoint.group, found.checkpoint.number
    check_ripe(node, vault, found)
    frozen = node.call(vault, "emergency", group, at=LATEST)
    payable = [
        claim
        for claim in found.claims
        if any(claim.leaf.owner)
        and (frozen or claim.leaf.exit_entry)
        and not node.call(vault, "spent", group, number, claim.leaf.index, at=LATEST)
    ]
    if not payable:
        raise Refusal(f"no leaf in {options.file} can be paid: paid before, or present and no emergency")
    for first in range(0, len(payable), MANY):
        few = payable[first : first + MANY]
        receipt = signer.carry_out(vault, paying(found, few), GAS + GAS_OF_LEAF * len(few))
        show_payments(receipt)


def paying(found: Claims, few: list[Claim]) -> str:
    arguments = [claim.arguments() for claim in few]
    if len(few) == 1:
        return contract.call_data("withdraw", found.header, *arguments[0])
    leaves, proofs = [leaf for leaf, _ in arguments], [siblings for _, siblings in arguments]
    return contract.call_data("withdraw_many", found.header, leaves, proofs)


def emergency(node: Node, options: argparse.Namespace, database: Database) -> None:
    """Declare an emergency, for silence or for a request that was not answered."""
    vault = vault_of(options, database)
    signer = signing(node, options)
    group = options.group
    if node.call(vault, "emergency", group, at=LATEST):
        print(f"group {group} is in an emergency: ledger vault withdraw FILE, ledger vault reclaim {group}")
        return
    found = read_status(node, vault, group, node.latest().number)
    if not found.state.held:
        raise Refusal(f"group {group} holds nothing")
    if options.request is None:
        possible_at = found.silent_at or 0
        data = contract.call_data("declare_emergency", group)
    else:
        (claim,) = single(read_claims(options.request), options.request)
        asked = (group, claim.leaf.participant, to_checksum_address(claim.leaf.owner))
        since = int(node.call(vault, "requested", *asked, at=LATEST))
        if not since:
            raise Refusal(f"participant {claim.leaf.participant} has no request that waits for an answer")
        possible_at = since + found.silence
        data = contract.call_data("declare_emergency_of_request", *asked)
    if found.block.time < possible_at:
        raise Refusal(f"an emergency can be declared from {at(possible_at)} on")
    receipt = signer.carry_out(vault, data)
    print(f"declared an emergency of group {group}, transaction {receipt['transactionHash']}")
    (declared,) = (log for log in logs_of(receipt) if log.name == "Emergency")
    print(f"every leaf of root {declared.values['number']} is paid: ledger vault withdraw FILE")


def reclaim(node: Node, options: argparse.Namespace, database: Database) -> None:
    """Have deposits returned that the root which is paid does not include."""
    vault = vault_of(options, database)
    signer = signing(node, options)
    group = options.group
    if not node.call(vault, "emergency", group, at=LATEST):
        raise Refusal(f"group {group} is not in an emergency")
    first = Root(*node.call(vault, "ripe", group, at=LATEST)).deposits
    count = int(node.call(vault, "deposits", group, at=LATEST))
    chosen = range(first, count) if options.deposit is None else [options.deposit]
    if options.deposit is not None and not first <= options.deposit < count:
        raise Refusal(f"deposit {options.deposit} is in the leaves of the root, or was never made")
    left = [index for index in chosen if not node.call(vault, "deposit_of", group, index, at=LATEST)[3]]
    if not left:
        raise Refusal("no deposit can be returned: the root includes them, or they were returned before")
    for index in left:
        show_payments(signer.carry_out(vault, contract.call_data("reclaim", group, index), GAS + GAS_OF_LEAF))


def collect(node: Node, options: argparse.Namespace, database: Database) -> None:
    owner, vault = to_checksum_address(options.owner), to_checksum_address(options.vault)
    signer = signing(node, options)
    if not node.call(vault, "owed", owner, at=LATEST):
        raise Refusal(f"{vault} owes nothing to {owner}")
    show_payments(signer.carry_out(vault, contract.call_data("collect", owner)))


def show_payments(receipt: dict[str, Any]) -> None:
    logs = logs_of(receipt)
    for log in logs:
        owner, amount = log.values.get("owner"), log.values.get("amount")
        if log.name in ("Paid", "Reclaimed", "Collected"):
            print(f"paid {ether(int(amount or 0))} to {owner}, transaction {receipt['transactionHash']}", flush=True)
        elif log.name == "Owed":
            print(f"{owner} refuses ether: {ether(int(amount or 0))} waits for ledger vault collect", flush=True)


def logs_of(receipt: dict[str, Any]) -> list[Log]:
    return [log for log in map(contract.read_log, receipt["logs"]) if log is not None]


def signing(node: Node, options: argparse.Namespace) -> Signer:
    return Signer(node, opened_key(options, "vault"), node.chain_id(), options.max_fee)


def vault_of(options: argparse.Namespace, database: Database) -> str:
    """The vault that the options name, or that the database has for the group."""
    if options.vault is not None:
        return str(to_checksum_address(options.vault))
    (row,) = rows(database, "get_vault", options.group)
    return str(to_checksum_address(row.vault))


def rows(database: Database, function: str, *arguments: object) -> list[Any]:
    with database() as conninfo:
        session = ledger.connect(conninfo)
        try:
            return session.rows(function, *arguments)
        finally:
            session.close()


def read_claims(file: Any) -> Claims:
    try:
        return claims.read(file)
    except InvalidProof as error:
        raise Refusal(f"{file} proves nothing: {error}") from None
    except OSError as error:
        raise Refusal(f"cannot read {file}: {error.strerror}") from None


def single(found: Claims, file: Any) -> list[Claim]:
    if len(found.claims) != 1:
        raise Refusal(f"{file} is a snapshot: make a proof of it with ledger proof --snapshot")
    return list(found.claims)


def check_chain(node: Node, found: Claims, chain_id: int) -> str:
    """Return the vault of a proof, which must be one on this chain."""
    vault = to_checksum_address(found.checkpoint.vault)
    if found.checkpoint.chain != chain_id:
        raise Refusal(f"the proof is of chain {found.checkpoint.chain}, and {node.host} of chain {chain_id}")
    if node.call(vault, "domain", found.checkpoint.group, at=LATEST) != f"0x{found.checkpoint.domain.hex()}":
        raise Refusal(f"{vault} is no vault of the group")
    note(f"vault {vault} on chain {chain_id}")
    return vault


def check_ripe(node: Node, vault: str, found: Claims) -> None:
    ripe = Root(*node.call(vault, "ripe", found.checkpoint.group, at=LATEST))
    if ripe.header != f"0x{found.checkpoint.header.hex()}":
        raise Refusal(f"checkpoint {found.checkpoint.number} is not the last ripe root, which is {ripe.number}")


def check_publisher(node: Node, vault: str, signer: Signer) -> None:
    publisher = node.call(vault, "publisher", at=LATEST)
    if publisher != signer.address:
        raise Refusal(f"the publisher of {vault} is {publisher}, and the key is that of {signer.address}")


def check_code(node: Node, vault: str) -> None:
    code, runtime = node.code(vault, LATEST), bytes.fromhex(contract.artifact()["runtime"].removeprefix("0x"))
    if not code.startswith(runtime) or len(code) != len(runtime) + IMMUTABLES:
        raise Refusal(f"the code of {vault} is not that of this release's vault")


def note(line: str) -> None:
    print(f"ledger: {line}", file=sys.stderr, flush=True)
