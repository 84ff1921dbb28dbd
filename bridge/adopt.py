"""Make a restored group agree with the chain again.

A restore loses what the chain still shows: roots, and the participants and exits in them. With a full snapshot of the
last ripe root, which the guardian keeps, the group is made to agree with it; then what the vault has logged since is
recorded. The bridge goes on behind the block at which that ends.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from psycopg.types.json import Jsonb

from api.proofs import verify_snapshot
from bridge import follow
from bridge.chain import Block, Chain, State
from bridge.contract import Log
from bridge.halts import Halt, Refusal
from bridge.ledger import Call, Ledger


def adopt(chain: Chain, ledger: Ledger, group: int, snapshot: Path, first: int) -> str:
    """Adopt the snapshot in a file; return what was done, in words. Raises Refusal, Halt, Later."""
    row = ledger.row("get_vault", group)
    chain_id = chain.chain_id()
    if chain_id != row.chain_id:
        raise Halt("wrong_chain", f"group {group} is linked to a vault on chain {row.chain_id}, and this is {chain_id}")
    head = chain.final()
    if not ledger.lock(chain_id, chain.terms(row.vault, head).publisher):
        raise Refusal("a bridge works with the publisher's key: stop it first")
    (found,) = follow.read(chain, ledger, [row], head, first)
    root = found.state.latest
    known = {int(one.number): one for one in found.publications}
    if root.number == 0 or (root.number in known and known[root.number].header == root.header):
        return f"nothing to adopt: the database has root {root.number} of group {group}"
    if root.number != found.state.ripe.number:
        raise Refusal(f"root {root.number} of group {group} is not ripe yet: adopt it once it is")
    leaves = read_snapshot(snapshot, root.header)
    published = [log for log in found.logs if log.name == "Published" and log.values["number"] == root.number]
    if not published:
        raise Halt("inconsistent", f"the node has root {root.number} of group {group} and no event of it")
    calls = [*record(found, published[-1], leaves), Call("record_progress", (group, head.number, head.hash))]
    participants, entries = ids(leaves["leaves"], found.logs)
    with ledger.transaction():
        for call in [adoption(row, found.logs, leaves), Call("raise_ids", (participants, entries)), *calls]:
            ledger.rows(call.function, *call.arguments)
        check(ledger.row("get_vault", group), found.state, head)
    return f"group {group} has adopted root {root.number}, and what happened up to block {head.number}"


def read_snapshot(path: Path, header: str) -> dict[str, Any]:
    """Return a snapshot that is that of the header, and consistent. Raises Refusal."""
    try:
        with path.open(encoding="utf-8") as file:
            verify_snapshot.verify(file, header)
        snapshot: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refusal(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise Refusal(f"{path} is not the snapshot of the last ripe root, {header}: {error}") from None
    return snapshot


def adoption(row: Any, logs: Sequence[Log], snapshot: dict[str, Any]) -> Call:
    """Return the call that makes a group agree with a snapshot, with the deposits and the payments that it includes."""
    checkpoint = snapshot["checkpoint"]
    deposits = [
        {"index": log.values["index"], **money(log), "cumulative": str(log.values["cumulative"])}
        for log in logs
        if log.name == "Deposit" and row.deposits <= log.values["index"] < int(checkpoint["deposits"])
    ]
    payouts = [
        {
            "participant_id": log.values["participant_id"],
            "exit_entry": log.values["exit_entry"] or None,
            **money(log),
            "log": log.index,
        }
        for log in logs
        if log.name == "Paid" and log.values["number"] < int(checkpoint["number"])
    ]
    return Call("adopt_snapshot", (row.group_id, Jsonb(snapshot), Jsonb(deposits), Jsonb(payouts)))


def money(log: Log) -> dict[str, object]:
    return {
        "owner": log.values["owner"],
        "amount": str(log.values["amount"]),
        "transaction": log.transaction,
        "block": log.block,
    }


def record(found: follow.Followed, published: Log, snapshot: dict[str, Any]) -> list[Call]:
    """Return the calls that record what is not in the snapshot: of the events before its root and those after it."""
    group, number = int(found.row.group_id), int(published.values["number"])
    included = {int(leaf["participant_id"]) for leaf in snapshot["leaves"]}
    known = {one.header for one in found.publications}
    taken_back = follow.taken_back(found.logs)
    calls = [Call("record_publication", (group, number, "accepted", published.transaction, published.block))]
    for log in found.logs:
        values, where = log.values, (log.transaction, log.block)
        if log.name == "Deposit" and values["index"] >= int(snapshot["checkpoint"]["deposits"]):
            arguments = (values["index"], values["owner"], values["amount"], values["cumulative"], *where)
            calls.append(Call("credit_deposit", (group, *arguments)))
        elif log.name == "ExitRequested" and values["participant_id"] in included:
            # Another participant has left and was paid before the root.
            calls.append(Call("exit_requested", (group, values["participant_id"], values["owner"], *where)))
        elif log.name == "Paid" and values["number"] == number:
            leaf = (values["participant_id"], values["exit_entry"] or None, values["owner"], values["amount"])
            calls.append(Call("settle_payout", (group, *leaf, *where, log.index)))
        elif log.name == "Published" and values["number"] in taken_back and values["header"] not in known:
            calls.append(Call("record_unknown_root", (group, values["number"], values["header"], *where)))
        elif log.name == "Emergency":
            calls.append(Call("record_emergency", (group, values["number"], *where)))
        elif log.name == "Reclaimed":
            calls.append(Call("reclaim_deposit", (group, values["index"], values["owner"], values["amount"], *where)))
        elif log.name == "Closed":
            calls.append(Call("record_closing", (group, *where)))
    return calls


def ids(leaves: Sequence[dict[str, Any]], logs: Sequence[Log]) -> tuple[int, int]:
    """Return the greatest ids of participants and entries that leaves and events have."""
    participants = [int(leaf["participant_id"]) for leaf in leaves]
    entries = [int(leaf["exit_entry"] or 0) for leaf in leaves]
    participants += [log.values["participant_id"] for log in logs if "participant_id" in log.values]
    entries += [log.values["exit_entry"] for log in logs if "exit_entry" in log.values]
    return max(participants, default=0), max(entries, default=0)


def check(row: Any, state: State, head: Block) -> None:
    """Halt, and leave everything as it was, unless the database now agrees with the vault."""
    ours = (int(row.deposits), int(row.cumulative), int(row.settled), bool(row.emergency), row.accepted_header)
    chains = (state.deposits, state.credited, state.paid, state.emergency, state.latest.header)
    if ours != chains:
        raise Halt("inconsistent", f"at block {head.number} the vault has {chains}, and the database would have {ours}")
