"""The values of a request: how each kind may be spelled, in JSON or in a query, and how PostgreSQL is told it.

They stay text on their way: no amount becomes a Python number, and no number loses a digit.
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import NoReturn

from api.routes import Kind

MAX_LIMIT = 1000  # rows of a page
MAX_WAIT = 30  # seconds that a reader of the feed may wait
MAX_ID = str(2**63 - 1)
MAX_AMOUNT_DIGITS = 78  # of 2^256 - 1; the exact bound is a rule and lies in SQL
MAX_NUMBER = 4096  # digits, and exponent, of a number in metadata, which may have as many bytes

DIGITS = re.compile("[0-9]+", re.ASCII)
EXPONENT = re.compile("[eE][+-]?0*([0-9]*)")
SURROGATES = re.compile("[\ud800-\udfff]")
# A + that a client forgot to escape arrives as a space.
TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9:]{8})(\.[0-9]+)?([Zz]|[ +-][0-9]{2}:[0-9]{2})", re.ASCII)

MISSING = object()

# What is wrong with a value, by the part of it that is to blame ("" is the whole), and how PostgreSQL is to be told it.
Reading = tuple[dict[str, str], str | None]


class Number(str):
    """A JSON number as it was spelled."""


class Members(dict[str, object]):
    """A JSON object that knows which of its members were repeated."""

    repeated: frozenset[str] = frozenset()


def members(pairs: list[tuple[str, object]]) -> Members:
    result = Members(pairs)
    if len(result) < len(pairs):
        times = Counter(name for name, _ in pairs)
        result.repeated = frozenset(name for name, count in times.items() if count > 1)
    return result


def refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


DECODER = json.JSONDecoder(
    object_pairs_hook=members, parse_int=Number, parse_float=Number, parse_constant=refuse_constant
)


class Unspeakable(ValueError):
    """What is wrong with a JSON value that PostgreSQL cannot hold, and with which part of it."""

    def __init__(self, fault: str, part: str = "") -> None:
        super().__init__(fault)
        self.part = part


def spell(value: object) -> str:
    """The JSON text of a decoded value, its numbers to the digit. Raises Unspeakable."""
    if isinstance(value, Number):
        exponent = EXPONENT.search(value)
        if len(value) > MAX_NUMBER or (exponent and (len(exponent[1]) > 4 or int(exponent[1] or 0) > MAX_NUMBER)):
            raise Unspeakable(f"must not have a number of more than {MAX_NUMBER} digits")
        return value
    if isinstance(value, str):
        if "\0" in value or SURROGATES.search(value):
            raise Unspeakable("must not contain a NUL or half of a surrogate pair")
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Members):
        if value.repeated:
            raise Unspeakable(f"must give {printable(min(value.repeated))} once")
        return f"{{{','.join(f'{spell(name)}:{spell(inner)}' for name, inner in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(map(spell, value))}]"
    return json.dumps(value)


def id_fault(value: object) -> str | None:
    digits = digits_of(value)
    if digits is None or digits == "":
        return "must be given" if value is MISSING or value is None else "must be a positive integer"
    return None if in_bigint(digits) else "must be below 2^63"


def after_fault(value: object) -> str | None:
    digits = digits_of(value)
    return "must be an id" if digits is None or not in_bigint(digits) else None


def limit_fault(value: object) -> str | None:
    digits = digits_of(value)
    if digits is None or len(digits) > 4 or not 1 <= int(digits or "0") <= MAX_LIMIT:
        return f"must be an integer from 1 to {MAX_LIMIT}"
    return None


def wait_fault(value: object) -> str | None:
    digits = digits_of(value)
    if digits is None or len(digits) > 2 or int(digits or "0") > MAX_WAIT:
        return f"must be an integer from 0 to {MAX_WAIT}"
    return None


def amount_fault(value: object) -> str | None:
    if value is MISSING or value is None:
        return "must be given"
    digits = digits_of(value)
    if digits is None:
        return "must be a whole number that is not negative, or a string of its digits"
    return "must be below 2^256" if len(digits) > MAX_AMOUNT_DIGITS else None


def text_fault(value: object) -> str | None:
    if value is MISSING or value is None:
        return "must be given"
    if not isinstance(value, str) or isinstance(value, Number):
        return "must be a string"
    if "\0" in value:
        return "must not contain control characters"
    if SURROGATES.search(value):
        return "must not contain half of a surrogate pair"
    return None


def wrong(fault: str) -> Reading:
    return {"": fault}, None


def right(spelled: str) -> Reading:
    return {}, spelled


def as_it_is(fault: Callable[[object], str | None]) -> Callable[[object], Reading]:
    """Read a value whose spelling is good for PostgreSQL, too."""

    def read_as_it_is(value: object) -> Reading:
        found = fault(value)
        return wrong(found) if found else right(str(value))

    return read_as_it_is


def read_time(value: object) -> Reading:
    """A time as in RFC 3339: with its offset."""
    match = TIME.fullmatch(str(value))
    if match:
        date, time, fraction, offset = match.groups(default="")
        spelled = f"{date}T{time}{fraction[:7]}{offset.upper().replace(' ', '+')}"
        with suppress(ValueError, OverflowError):
            moment = datetime.fromisoformat(spelled)
            # PostgreSQL knows offsets below 16 hours, RFC 3339 below 24.
            return right(spelled if offset[1:3] < "16" else moment.astimezone(UTC).isoformat())
    return wrong("must be a time as in RFC 3339, with its offset")


def read_boolean(value: object) -> Reading:
    return right(str(value)) if value in ("true", "false") else wrong("must be true or false")


def read_order(value: object) -> Reading:
    """Whether the newest come first."""
    return {"asc": right("false"), "desc": right("true")}.get(str(value)) or wrong("must be asc or desc")


def read_object(value: object) -> Reading:
    if not isinstance(value, Members):
        return wrong("must be a JSON object")
    try:
        return right(spell(value))
    except Unspeakable as fault:
        return wrong(str(fault))
    except RecursionError:
        return wrong("is nested too deeply")


def read_json(value: object) -> Reading:
    """A JSON object that is given as text."""
    with suppress(ValueError, RecursionError):
        return read_object(DECODER.decode(str(value)))
    return wrong("must be a JSON object")


def read_lines(value: object) -> Reading:
    """The lines of a multi-party transfer. What they hold is for SQL to judge."""
    if value is MISSING or value is None:
        return wrong("must be given")
    if not isinstance(value, list):
        return wrong("must be a list")
    lines, faults = [], {}
    for number, line in enumerate(value):
        try:
            lines.append(spell_line(line) if isinstance(line, Members) else spell(line))
        except Unspeakable as fault:
            faults[f"[{number}]{fault.part}"] = str(fault)
        except RecursionError:
            faults[f"[{number}]"] = "is nested too deeply"
    return faults, None if faults else f"[{','.join(lines)}]"


LINE_MEMBERS = {name: f'"{name}"' for name in ("from", "to", "amount", "metadata")}


def spell_line(line: Members) -> str:
    if line.repeated:
        raise Unspeakable("must be given once", f".{printable(min(line.repeated))}")
    return f"{{{','.join([spell_member(name, value) for name, value in line.items()])}}}"


def spell_member(name: str, value: object) -> str:
    spelled = LINE_MEMBERS.get(name) or spell(name)
    # A string keeps the spelling: jsonb would make 100 of 1e2.
    return f'{spelled}:"{value}"' if isinstance(value, Number) and name != "metadata" else f"{spelled}:{spell(value)}"


# How a value of each kind is read, and its type in PostgreSQL.
KINDS: dict[Kind, tuple[Callable[[object], Reading], str]] = {
    "id": (as_it_is(id_fault), "bigint"),
    "after": (as_it_is(after_fault), "bigint"),
    "limit": (as_it_is(limit_fault), "integer"),
    "amount": (as_it_is(amount_fault), "numeric"),
    "text": (as_it_is(text_fault), "text"),
    "key": (as_it_is(text_fault), "text"),
    "time": (read_time, "timestamptz"),
    "boolean": (read_boolean, "boolean"),
    "order": (read_order, "boolean"),
    "object": (read_object, "jsonb"),
    "json": (read_json, "jsonb"),
    "lines": (read_lines, "jsonb"),
}


def read(kind: Kind, value: object) -> Reading:
    return KINDS[kind][0](value)


def sql_type(kind: Kind) -> str:
    return KINDS[kind][1]


def digits_of(value: object) -> str | None:
    """The significant digits of a number that is spelled in ASCII digits alone; None for anything else."""
    return significant(value) if isinstance(value, str) and value.isdigit() and value.isascii() else None


def significant(number: str) -> str:
    return number.lstrip("0")


def in_bigint(digits: str) -> bool:
    return len(digits) < len(MAX_ID) or (len(digits) == len(MAX_ID) and digits <= MAX_ID)


def printable(name: str) -> str:
    """A member's name that a JSON answer in UTF-8 can hold."""
    return SURROGATES.sub("\ufffd", name)[:255]
