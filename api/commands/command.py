"""Runs a command that sends requests to a service, and returns its exit status."""

import argparse
import json
import os
import shlex
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TypeVar

import httpx

from api.commands.arguments import Name, service_of
from api.commands.lines import read_lines
from api.commands.members import Members, entry_members, group_members, movement_members, participant_members
from api.commands.printing import note, print_json, print_object, print_rows, print_table
from api.commands.statement import print_statement
from api.commands.statuses import NOT_FOUND, UNKNOWN, UNUSABLE, Unusable, reason, status_of
from api.commands.watch import watch
from ledger_client import Client, LedgerError, Receipt, new_idempotency_key

T = TypeVar("T")
Options = argparse.Namespace

RETRIES = 5  # of a request: some seconds, or 25 where the service asks for pauses of 5
GROUP_COLUMNS = ("id", "name")
PARTICIPANT_COLUMNS = ("id", "username", "amount")
ENTRY_COLUMNS = ("id", "created_at", "kind", "from", "to", "amount", "from_amount", "to_amount", "metadata")


class UnknownName(Exception):
    """No group or participant has the name that was given."""


def run(options: Options) -> int:
    """Carry out a command; print one line to the standard error if that is refused or fails."""
    try:
        with connect(options) as client:
            resolve(client, options)
            COMMANDS[options.command, getattr(options, "action", "")](client, options)
    except Unusable as error:
        note(str(error))
        return UNUSABLE
    except UnknownName as error:
        note(f"not_found: {error}")
        return NOT_FOUND
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        note(f"no request can be sent: {error}")
        return UNUSABLE
    except LedgerError as error:
        status = status_of(error)
        hint = f"; it may have been done, repeat it with: {again(options)}" if status == UNKNOWN else ""
        note(reason(error, service_of(options)) + hint)
        return status
    return 0


def connect(options: Options) -> Client:
    key = os.environ.get("LEDGER_KEY") or None
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        raise Unusable("LEDGER_KEY is not an API key")
    try:
        return Client(service_of(options), key, retries=RETRIES)
    except ValueError as error:  # httpx's too
        raise Unusable(f"the address of the service: {error}") from None


def resolve(client: Client, options: Options) -> None:
    """Replace the names in the options by ids."""
    if isinstance(name := getattr(options, "group", None), Name):
        group = next(client.list_groups(name=name), None)
        if group is None:
            raise UnknownName(f"no group has the name {name}")
        options.group = group.id
    for option in ("participant", "from_id", "to_id"):
        if isinstance(name := getattr(options, option, None), Name):
            setattr(options, option, participant_id(client, options.group, name))


def participant_id(client: Client, group_id: int, username: str) -> int:
    participant = next(client.list_participants(group_id, username=username), None)
    if participant is None:
        raise UnknownName(f"no participant of group {group_id} has the username {username}")
    return participant.id


def idempotency_key(options: Options) -> str:
    """Return the idempotency key of a write; print one that is new before the request, so that it survives a kill."""
    if options.idempotency_key is None:
        options.idempotency_key = new_idempotency_key()
        note(f"idempotency key {options.idempotency_key}")
    return str(options.idempotency_key)


def again(options: Options) -> str:
    """Return the command that repeats a write, with ids in place of names: these may change."""
    action = getattr(options, "action", None)
    named = {"--from": "from_id", "--to": "to_id", "--metadata": "metadata", "--url": "url"}
    named["--idempotency-key"] = "idempotency_key"
    plain = ["group", "participant", "entry", "username", "name", "reference", "amount", "file"]
    if action == "bind":
        plain.append("address")
    else:
        named["--address"] = "address"
    words = ["ledger", options.command, *([action] if action else [])]
    for option, name in named.items():
        if (value := getattr(options, name, None)) is not None:
            words += [f"{option}={json.dumps(value) if isinstance(value, dict) else value}"]
    values = [str(value) for name in plain if (value := getattr(options, name, None)) is not None]
    return shlex.join([*words, *(["--"] if any(value.startswith("-") for value in values) else []), *values])


# The commands


def receipt_members(receipt: Receipt, as_json: bool) -> Members:
    """Return what a write left behind: for people the entry, and whether an earlier command did it."""
    entry: Members = {} if receipt.entry_id is None else {"entry_id": receipt.entry_id}
    if as_json:
        return {**entry, "replayed": receipt.replayed, "idempotency_key": receipt.idempotency_key}
    return entry | ({"replayed": True} if receipt.replayed else {})


def print_written(members: Members, receipt: Receipt, options: Options) -> None:
    print_object(members | receipt_members(receipt, options.json), options.json)


def limited(rows: Iterable[T], options: Options) -> Iterable[T]:
    return islice(rows, options.limit)


def group_list(client: Client, options: Options) -> None:
    rows = map(group_members, limited(client.list_groups(), options))
    print_rows(GROUP_COLUMNS, rows, options.json)


def group_show(client: Client, options: Options) -> None:
    group = client.get_group(options.group)
    print_object({**group_members(group), "group_total": client.group_total(options.group)}, options.json)


def group_create(client: Client, options: Options) -> None:
    group = client.create_group(options.name, idempotency_key=idempotency_key(options))
    print_written(group_members(group), group.receipt, options)


def group_rename(client: Client, options: Options) -> None:
    group = client.rename_group(options.group, options.name, idempotency_key=idempotency_key(options))
    print_written(group_members(group), group.receipt, options)


def group_remove(client: Client, options: Options) -> None:
    receipt = client.remove_group(options.group, idempotency_key=idempotency_key(options))
    print_written({"removed": options.group}, receipt, options)


def participant_list(client: Client, options: Options) -> None:
    rows = map(participant_members, limited(client.list_participants(options.group), options))
    print_rows(PARTICIPANT_COLUMNS, rows, options.json)


def participant_show(client: Client, options: Options) -> None:
    participant = client.get_participant(options.group, options.participant, at=options.at)
    members = participant_members(participant)
    if options.at is None:
        members["address"] = client.get_address(options.group, options.participant).address
    print_object(members, options.json)


def participant_rename(client: Client, options: Options) -> None:
    participant = client.rename_participant(
        options.group, options.participant, options.username, idempotency_key=idempotency_key(options)
    )
    print_written(participant_members(participant), participant.receipt, options)


def participant_bind(client: Client, options: Options) -> None:
    bound = client.bind_address(
        options.group, options.participant, options.address, idempotency_key=idempotency_key(options)
    )
    print_written({"address": bound.address}, bound.receipt, options)


def entry_list(client: Client, options: Options) -> None:
    chosen = {
        "kind": options.kind,
        "metadata": options.metadata,
        "order": "desc" if options.newest_first else None,
        "page_size": min(options.limit or 1_000, 1_000),
    }
    entries = (
        client.list_entries(options.group, **chosen)
        if options.participant is None
        else client.list_participant_entries(options.group, options.participant, **chosen)
    )
    print_rows(ENTRY_COLUMNS, map(entry_members, limited(entries, options)), options.json)


def entry_show(client: Client, options: Options) -> None:
    print_object(entry_members(client.get_entry(options.group, options.entry)), options.json)


def join(client: Client, options: Options) -> None:
    participant = client.join_group(
        options.group,
        options.username,
        options.amount,
        address=options.address,
        metadata=options.metadata,
        idempotency_key=idempotency_key(options),
    )
    print_written(participant_members(participant), participant.receipt, options)


def deposit(client: Client, options: Options) -> None:
    participant = client.deposit(
        options.group,
        options.participant,
        options.amount,
        metadata=options.metadata,
        idempotency_key=idempotency_key(options),
    )
    print_written(participant_members(participant), participant.receipt, options)


def transfer(client: Client, options: Options) -> None:
    moved = client.transfer(
        options.group,
        options.from_id,
        options.to_id,
        options.amount,
        metadata=options.metadata,
        idempotency_key=idempotency_key(options),
    )
    sides = {"to": participant_members(moved.to_participant), "from": participant_members(moved.from_participant)}
    receipt = receipt_members(moved.receipt, options.json)
    if options.json:
        print_json({**{f"{side}_participant": members for side, members in sides.items()}, **receipt})
        return
    rows = [[side, *(members[name] for name in PARTICIPANT_COLUMNS)] for side, members in sides.items()]
    print_table(("side", *PARTICIPANT_COLUMNS), rows)
    print_object(receipt, False)


def transfers(client: Client, options: Options) -> None:
    lines = read_lines(options.file, lambda username: participant_id(client, options.group, username))
    made = client.transfer_all(options.group, lines, idempotency_key=idempotency_key(options))
    participants = [participant_members(participant) for participant in made.participants]
    receipt = receipt_members(made.receipt, options.json)
    if options.json:
        entries = [movement_members(movement) for movement in made.entries]
        print_json({"entries": entries, "participants": participants, **receipt})
        return
    print_rows(PARTICIPANT_COLUMNS, participants, False)
    print_object({"entries": len(made.entries), **receipt}, False)


def exit_group(client: Client, options: Options) -> None:
    left = client.exit_group(
        options.group,
        options.participant,
        address=options.address,
        metadata=options.metadata,
        idempotency_key=idempotency_key(options),
    )
    print_written({"final_amount": left.final_amount}, left.receipt, options)


def reverse(client: Client, options: Options) -> None:
    entry = client.reverse_transfer(
        options.group, options.entry, metadata=options.metadata, idempotency_key=idempotency_key(options)
    )
    print_written(entry_members(entry), entry.receipt, options)


def settle(client: Client, options: Options) -> None:
    entry = client.settle_exit(
        options.group, options.entry, options.reference, idempotency_key=idempotency_key(options)
    )
    print_written(entry_members(entry), entry.receipt, options)


COMMANDS: dict[tuple[str, str], Callable[[Client, Options], None]] = {
    ("group", "list"): group_list,
    ("group", "show"): group_show,
    ("group", "create"): group_create,
    ("group", "rename"): group_rename,
    ("group", "remove"): group_remove,
    ("participant", "list"): participant_list,
    ("participant", "show"): participant_show,
    ("participant", "rename"): participant_rename,
    ("participant", "bind"): participant_bind,
    ("entry", "list"): entry_list,
    ("entry", "show"): entry_show,
    ("join", ""): join,
    ("deposit", ""): deposit,
    ("transfer", ""): transfer,
    ("transfers", ""): transfers,
    ("exit", ""): exit_group,
    ("reverse", ""): reverse,
    ("settle", ""): settle,
    ("statement", ""): print_statement,
    ("watch", ""): watch,
}
