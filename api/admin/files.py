"""Read participants and transfers from a file: CSV, NDJSON, or the `alloc` of an Ethereum genesis.

A file is read and checked as a whole. What only the ledger knows, such as whether a username is taken, is not checked
here.
"""

import csv
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

MAX_ERRORS = 100  # that are kept; the others are counted
MAX_METADATA = 4096  # bytes
LIMIT = 2**256

DIGITS = re.compile("[0-9]{1,1000}")
DECIMAL = re.compile(r"[0-9]{1,1000}(?:\.[0-9]{1,1000})?")
HEX = re.compile("0x[0-9a-fA-F]{1,1000}")
ADDRESS = re.compile("(?:0x)?[0-9a-fA-F]{40}")
FORMATS = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "genesis"}

PARTICIPANT = {"username", "amount", "address", "metadata"}
TRANSFER = {"from", "to", "amount", "metadata"}


class UnreadableFileError(Exception):
    """Why nothing can be read from a file."""


@dataclass(frozen=True)
class Line:
    """A participant or a transfer, checked, and its line: the amount in digits, other values as they were given."""

    number: int
    values: dict[str, Any]


@dataclass
class Contents:
    """What a file holds, and what is wrong with it, by line."""

    participants: list[Line] = field(default_factory=list)
    transfers: list[Line] = field(default_factory=list)
    errors: list[tuple[int, str]] = field(default_factory=list)
    error_count: int = 0

    def refuse(self, number: int, reason: str) -> None:
        self.error_count += 1
        if len(self.errors) < MAX_ERRORS:
            self.errors.append((number, reason))


def read(path: Path, file_format: str | None, decimals: int) -> Contents:
    """Read and check a file. Raises UnreadableFileError, OSError."""
    file_format = file_format or FORMATS.get(path.suffix.lower())
    if file_format is None:
        raise UnreadableFileError(f"{path} is of no known format: give it with --format")
    contents = Contents()
    usernames: dict[str, int] = {}
    addresses: dict[str, int] = {}
    try:
        for number, values in {"csv": rows, "ndjson": objects, "genesis": accounts}[file_format](path, contents):
            check(contents, number, values, decimals, usernames, addresses)
    except UnicodeDecodeError:
        raise UnreadableFileError(f"{path} is not UTF-8") from None
    except csv.Error as error:
        raise UnreadableFileError(f"{path} is not CSV: {error}") from None
    if not (contents.participants or contents.transfers or contents.error_count):
        raise UnreadableFileError(f"{path} has neither participants nor transfers")
    return contents


def rows(path: Path, contents: Contents) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a CSV file whose first row names its columns; an empty field is none."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        names = next(reader, [])
        if not (set(names) <= PARTICIPANT or set(names) <= TRANSFER) or len(set(names)) < len(names) or not names:
            raise UnreadableFileError(
                "the first row of a CSV file names its columns: username, amount, address, metadata; or from, to, "
                "amount, metadata"
            )
        end = reader.line_num
        for row in reader:
            number, end = end + 1, reader.line_num
            if not row:
                continue
            if len(row) != len(names):
                contents.refuse(number, f"has {len(row)} fields and not {len(names)}")
                continue
            values: dict[str, Any] = {name: value for name, value in zip(names, row, strict=True) if value}
            try:
                values |= {
                    name: json.loads(text, parse_float=Decimal) for name, text in values.items() if name == "metadata"
                }
            except (ValueError, RecursionError):
                contents.refuse(number, "metadata: must be JSON")
                continue
            yield number, values


def objects(path: Path, contents: Contents) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines of an NDJSON file, each an object."""
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                values = json.loads(text, object_pairs_hook=once, parse_float=Decimal)
            except (ValueError, RecursionError) as error:
                contents.refuse(number, f"is not JSON: {error}")
                continue
            if isinstance(values, dict):
                yield number, {name: value for name, value in values.items() if value is not None}
            else:
                contents.refuse(number, "must be an object")


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its members. Raises ValueError if one is repeated."""
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a member is repeated")
    return result


def accounts(path: Path, contents: Contents) -> Iterator[tuple[int, dict[str, Any]]]:
    """The accounts of a genesis, or of its `alloc` alone, which have no lines: they are numbered from 1."""
    try:
        genesis = json.loads(path.read_text("utf-8-sig"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise
        raise UnreadableFileError(f"{path} is not JSON: {error}") from None
    alloc = genesis.get("alloc", genesis) if isinstance(genesis, dict) else None
    if not isinstance(alloc, dict):
        raise UnreadableFileError(f"{path} has no object alloc")
    for number, (address, account) in enumerate(alloc.items(), 1):
        if not ADDRESS.fullmatch(address):
            contents.refuse(number, f"{address!r} is no address")
        elif not isinstance(account, dict) or "balance" not in account:
            contents.refuse(number, f"{address} has no balance")
        else:
            spelled = f"0x{address[-40:].lower()}"
            yield number, {"username": spelled, "amount": account["balance"], "address": spelled}


def check(
    contents: Contents,
    number: int,
    values: dict[str, Any],
    decimals: int,
    usernames: dict[str, int],
    addresses: dict[str, int],
) -> None:
    """Add a line to the contents, or what is wrong with it."""
    joins = "username" in values or not ({"from", "to"} & values.keys())
    known, needed = (PARTICIPANT, ("username", "amount")) if joins else (TRANSFER, ("from", "to", "amount"))
    reasons = [f"{name}: is not known" for name in sorted(values.keys() - known)]
    reasons += [f"{name}: must be given" for name in needed if name not in values]
    amount = parse_amount(values.get("amount"), decimals)
    if isinstance(amount, str):
        reasons += [f"amount: {amount}"] if "amount" in values else []
    elif not joins and amount == 0:
        reasons.append("amount: must be at least 1")
    for name in {"username", "from", "to"} & values.keys() & known:
        if reason := invalid_username(values[name]):
            reasons.append(f"{name}: {reason}")
    if reason := invalid_metadata(values.get("metadata", {})):
        reasons.append(f"metadata: {reason}")
    if not reasons and joins:
        reasons += repeated("username", unicodedata.normalize("NFC", values["username"]), number, usernames)
        address = values.get("address")
        if address is not None and not (isinstance(address, str) and HEX.match(address) and ADDRESS.fullmatch(address)):
            reasons.append("address: must be 0x and 40 hex digits")
        elif address is not None:
            reasons += repeated("address", address.lower(), number, addresses)
    elif not reasons and values["from"] == values["to"]:
        reasons.append("to: must be another participant")
    for reason in reasons:
        contents.refuse(number, reason)
    if not reasons:
        (contents.participants if joins else contents.transfers).append(Line(number, values | {"amount": str(amount)}))


def repeated(name: str, value: str, number: int, known: dict[str, int]) -> list[str]:
    first = known.setdefault(value, number)
    return [f"{name}: is that of line {first}"] if first != number else []


def invalid_username(name: object) -> str | None:
    """Why the ledger does not take a username, as far as this is seen without its rules; None if it may."""
    if not isinstance(name, str):
        return "must be a string"
    if not name.strip() or len(unicodedata.normalize("NFC", name)) > 255:
        return "must have 1 to 255 characters and not be blank"
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        return "must not contain control characters"
    return None


def parse_amount(value: object, decimals: int) -> int | str:
    """The amount in the smallest unit, or why there is none. Hex quantities are always in the smallest unit."""
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        return "must be a number or a string of its digits"
    text = str(value)
    if HEX.fullmatch(text):
        amount = int(text, 16)
    elif DIGITS.fullmatch(text) and not decimals:
        amount = int(text)
    elif DECIMAL.fullmatch(text) and decimals:
        whole, _, fraction = text.partition(".")
        fraction = fraction.rstrip("0")
        if len(fraction) > decimals:
            return f"must have at most {decimals} decimal places"
        amount = int(whole + fraction.ljust(decimals, "0"))
    else:
        whole_number = "must be a whole number in digits or a hex quantity; --decimals allows decimal places"
        return "must be a number in digits" if decimals else whole_number
    return amount if amount < LIMIT else "must be below 2^256"


def written(value: object) -> str:
    """The one JSON text of a value. Raises ValueError for a number with more digits than a float keeps."""

    def number(inner: object) -> float:
        if not isinstance(inner, Decimal) or Decimal(repr(float(inner))) != inner:
            raise ValueError(f"{inner} has too many digits")
        return float(inner)

    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=number)


def invalid_metadata(metadata: object) -> str | None:
    try:
        if isinstance(metadata, dict) and len(written(metadata).encode(errors="replace")) <= MAX_METADATA:
            return None
    except (ValueError, RecursionError) as error:
        return str(error)
    return f"must be an object of at most {MAX_METADATA} bytes"
