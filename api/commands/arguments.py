"""The options of the commands that send requests to a service. It imports nothing that takes time."""

import argparse
import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

# In the order of the documents.
SERVICE_COMMANDS = (
    *("group", "participant", "entry", "join", "deposit", "transfer", "transfers", "exit", "reverse", "settle"),
    *("statement", "watch"),
)
SHELLS = ("bash", "zsh")
DEFAULT_URL = "http://127.0.0.1:4000"  # where `ledger serve` listens without settings
KINDS = ("join", "deposit", "transfer", "exit")

Identifier = Callable[[str], int]


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", identifier: Identifier) -> None:
    """Add the commands, each with its actions, arguments and options."""
    add_group(commands.add_parser("group", help="list, show, create, rename and remove groups"))
    add_participant(commands.add_parser("participant", help="list, show and rename participants, bind an address"))
    add_entry(commands.add_parser("entry", help="list and show entries"), identifier)

    join = commands.add_parser("join", help="let a participant join a group with a deposit")
    of_group(join)
    join.add_argument("username", metavar="USERNAME", help="the participant's name in the group")
    join.add_argument("amount", metavar="AMOUNT", type=amount, help="the deposit, 0 at least")
    join.add_argument("--address", metavar="ADDRESS", help="where the money of the exit goes on the main network")
    writes(join, metadata=True)

    deposit = commands.add_parser("deposit", help="add to a participant's balance")
    of_participant(deposit)
    deposit.add_argument("amount", metavar="AMOUNT", type=amount, help="1 at least")
    writes(deposit, metadata=True)

    transfer = commands.add_parser("transfer", help="move an amount between two participants")
    of_group(transfer)
    transfer.add_argument("amount", metavar="AMOUNT", type=amount, help="1 at least")
    for option, meaning in (("from", "the sender's id or username"), ("to", "the recipient's id or username")):
        transfer.add_argument(
            f"--{option}", metavar="PARTICIPANT", dest=f"{option}_id", type=reference, required=True, help=meaning
        )
    writes(transfer, metadata=True)

    many = commands.add_parser("transfers", help="make many transfers of one group, all or none")
    of_group(many)
    many.add_argument("file", metavar="FILE", help="a JSON list of {from, to, amount, metadata}; - is standard input")
    writes(many)

    leave = commands.add_parser("exit", help="let a participant leave with the final amount")
    of_participant(leave)
    leave.add_argument("--address", metavar="ADDRESS", help="where the money goes on the main network")
    writes(leave, metadata=True)

    reverse = commands.add_parser("reverse", help="return the amount of a transfer")
    of_entry(reverse, identifier, "the transfer's id")
    writes(reverse, metadata=True)

    settle = commands.add_parser("settle", help="record the transaction that paid an exit on the main network")
    of_entry(settle, identifier, "the exit's id")
    settle.add_argument("reference", metavar="REFERENCE", help="the transaction")
    writes(settle)

    statement = commands.add_parser("statement", help="print a participant's movements between two balances")
    of_participant(statement)
    statement.add_argument(
        "--from", metavar="TIME", dest="since", type=time, help="the first moment: 2026-11-01 or 2026-11-01T12:00Z, say"
    )
    statement.add_argument("--to", metavar="TIME", dest="until", type=time, help="the moment after the last one")
    statement.add_argument("--csv", action="store_true", help="print CSV")
    asks(statement)

    watch = commands.add_parser("watch", help="print the entries of all groups as they are written")
    begin = watch.add_mutually_exclusive_group()
    begin.add_argument("--after", metavar="CURSOR", help="go on after this cursor; from the beginning without it")
    begin.add_argument("--new", action="store_true", help="begin at the end: print what is written from now on")
    watch.add_argument("--group", metavar="GROUP", type=reference, help="of one group: its id or name")
    watch.add_argument("--once", action="store_true", help="stop after the newest entry")
    asks(watch)


def add_group(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="list|show|create|rename|remove", required=True)
    lists(actions.add_parser("list", help="list all groups"))
    show = actions.add_parser("show", help="show a group and its total")
    of_group(show)
    asks(show)
    create = actions.add_parser("create", help="make a group")
    create.add_argument("name", metavar="NAME", help="its name")
    writes(create)
    rename = actions.add_parser("rename", help="give a group another name")
    of_group(rename)
    rename.add_argument("name", metavar="NAME", help="its new name")
    writes(rename)
    remove = actions.add_parser("remove", help="remove a group without participants")
    of_group(remove)
    writes(remove)


def add_participant(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="list|show|rename|bind", required=True)
    every = actions.add_parser("list", help="list the participants of a group")
    of_group(every)
    lists(every)
    show = actions.add_parser("show", help="show a participant, with the balance and the address")
    of_participant(show)
    show.add_argument("--at", metavar="MOMENT", type=moment, help="the balance of then: a time, or the id of an entry")
    asks(show)
    rename = actions.add_parser("rename", help="give a participant another username")
    of_participant(rename)
    rename.add_argument("username", metavar="USERNAME", help="the new username")
    writes(rename)
    bind = actions.add_parser("bind", help="bind an address, for good")
    of_participant(bind)
    bind.add_argument("address", metavar="ADDRESS", help="where the money of the exit goes on the main network")
    writes(bind)


def add_entry(parser: argparse.ArgumentParser, identifier: Identifier) -> None:
    actions = parser.add_subparsers(dest="action", metavar="list|show", required=True)
    every = actions.add_parser("list", help="list the entries of a group, or of a participant")
    of_group(every)
    every.add_argument("--participant", metavar="PARTICIPANT", type=reference, help="of one: an id or a username")
    every.add_argument("--kind", choices=KINDS, metavar="|".join(KINDS), help="of one kind")
    every.add_argument("--metadata", metavar="JSON", type=read_metadata, help="whose metadata contain this object")
    every.add_argument("--newest-first", action="store_true", help="begin with the newest one")
    lists(every)
    show = actions.add_parser("show", help="show an entry")
    of_entry(show, identifier, "its id")
    asks(show)


def of_group(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("group", metavar="GROUP", type=reference, help="its id or name")


def of_participant(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("group", metavar="GROUP", type=reference, help="the group's id or name")
    parser.add_argument("participant", metavar="PARTICIPANT", type=reference, help="the participant's id or username")


def of_entry(parser: argparse.ArgumentParser, identifier: Identifier, meaning: str) -> None:
    parser.add_argument("group", metavar="GROUP", type=reference, help="the group's id or name")
    parser.add_argument("entry", metavar="ENTRY", type=identifier, help=meaning)


def asks(parser: argparse.ArgumentParser) -> None:
    """Add what every request takes."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--url", metavar="URL", help=f"the service; without it LEDGER_URL, or {DEFAULT_URL}")


def service_of(options: argparse.Namespace) -> str:
    """Return the address of the service that a command uses."""
    return str(options.url or os.environ.get("LEDGER_URL") or DEFAULT_URL)


def lists(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", metavar="N", type=count, help="N at most; all of them without it")
    asks(parser)


def writes(parser: argparse.ArgumentParser, *, metadata: bool = False) -> None:
    """Add what every request takes that changes something."""
    if metadata:
        parser.add_argument("--metadata", metavar="JSON", type=read_metadata, help="an object to store with the entry")
    parser.add_argument(
        "--idempotency-key", metavar="KEY", help="do it once, however often it is given; one is made without it"
    )
    asks(parser)


class Name(str):
    """A group or a participant that is given by name."""


def reference(value: str) -> int | Name:
    """Read an id, or a name: digits are an id, and a name of digits, or one that begins with @, has @ before it."""
    if value.isascii() and value.isdigit():
        if len(value) > 19 or not 0 < int(value) < 2**63:
            raise argparse.ArgumentTypeError(f"{value!r} is not an id")
        return int(value)
    name = value.removeprefix("@")
    if not name:
        raise argparse.ArgumentTypeError("an id or a name is needed")
    return Name(name)


def amount(value: str) -> int:
    """Read an amount, as a request of the service may have it. Its bounds are the service's to check."""
    if re.fullmatch("0x[0-9a-fA-F]{1,64}", value):
        return int(value, 16)
    if not re.fullmatch("[0-9]{1,78}", value):
        raise argparse.ArgumentTypeError(f"{value!r} is not an amount: digits, or 0x and hexadecimal digits")
    return int(value)


def count(value: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,17}", value):
        raise argparse.ArgumentTypeError(f"{value!r} is not a positive number")
    return int(value)


def time(value: str) -> datetime:
    """Read a time with its zone, or a day, which begins at midnight UTC."""
    try:
        read = datetime.fromisoformat(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is not a time: 2026-11-01 or 2026-11-01T12:00Z, say") from None
    if read.tzinfo is None and re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        return read.replace(tzinfo=UTC)
    if read.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{value!r} has no time zone: write {value}Z for UTC")
    return read


def moment(value: str) -> datetime | int:
    """Read a time, or the id of an entry."""
    return int(value) if re.fullmatch("[1-9][0-9]{0,17}", value) else time(value)


def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Read the members of an object. A name that is repeated is refused: one of its values would be lost."""
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a repeated name")
    return dict(pairs)


def read_metadata(value: str) -> dict[str, Any]:
    """Read a JSON object."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        read = json.loads(value, object_pairs_hook=read_object, parse_constant=refuse)
        json.dumps(read, allow_nan=False)  # 1e999 is read as infinity
    except (ValueError, RecursionError):
        raise argparse.ArgumentTypeError(f"{value!r} is not a JSON object") from None
    if not isinstance(read, dict):
        raise argparse.ArgumentTypeError(f"{value!r} is not a JSON object")
    return read
