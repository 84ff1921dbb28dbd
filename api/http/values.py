"""Read the values of a request: how each kind may be spelled, in JSON or in a query, and its text for PostgreSQL.

Values stay text: no amount becomes a Python number, and no number loses a digit.
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from api.routes import Kind

MAX_LIMIT = 1000  # rows of a page
MAX_WAIT = 30  # seconds that a reader of the feed may wait
MAX_ID = str(2**63 - 1)
MAX_AMOUNT_DIGITS = 78  # of 2^256 - 1; the exact bound is a rule and lies in SQL
MAX_LINES = 10_000  # of a list of transfers or joins; SQL has the same rule, and here the rest is not decoded
MAX_NUMBER = 4096  # digits, and exponent, of a number in metadata, which may have as many bytes
# Characters of metadata, its numbers written out. SQL allows 4096 bytes of its own text of them, which is never more
# than a quarter of this unless a number has thousands of zeros that mean nothing.
MAX_METADATA = 4 * 4096
MAX_DEPTH = 256  # of metadata's lists and objects

# How almost every id and amount is spelled: without zeros in front, and far below every bound.
ORDINARY = re.compile("[1-9][0-9]{0,17}")
HEX_QUANTITY = re.compile("0x[0-9a-fA-F]+")
MAX_HEX_DIGITS = 64  # of 2^256 - 1
EXPONENT = re.compile("[eE][+-]?0*([0-9]*)")
SURROGATES = re.compile("[\ud800-\udfff]")
# A + that a client forgot to escape arrives as a space.
TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}):([0-9]{2})(\.[0-9]+)?([Zz]|[ +-][0-9]{2}:[0-9]{2})", re.ASCII
)
LEAP_SECOND = "60"

MISSING = object()

# The errors of a value, by the part that each concerns ("" is the whole value), and its text for PostgreSQL.
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


class UnstorableValue(ValueError):
    """A JSON value that PostgreSQL cannot store: the reason, and the part of the value that it concerns."""

    def __init__(self, reason: str, part: str = "") -> None:
        super().__init__(reason)
        self.part = part


def to_json(value: object) -> str:
    """Return the JSON text of a decoded value, its numbers to the digit. Raises UnstorableValue."""
    text: list[str] = []
    zeros = 0

    def add(value: object, depth: int = 0) -> None:
        nonlocal zeros
        if depth > MAX_DEPTH:
            raise UnstorableValue("is nested too deeply")
        if isinstance(value, Number):
            zeros += number_of_zeros(value)
            text.append(value)
        elif isinstance(value, str):
            if "\0" in value or SURROGATES.search(value):
                raise UnstorableValue("must not contain a NUL or half of a surrogate pair")
            text.append(json.dumps(value, ensure_ascii=False))
        elif isinstance(value, Members):
            if value.repeated:
                raise UnstorableValue(f"must give {printable(min(value.repeated))} once")
            mark = "{"
            for name, inner in value.items():
                text.append(mark)
                add(name)
                text.append(":")
                add(inner, depth + 1)
                mark = ","
            text.append("}" if value else "{}")
        elif isinstance(value, list):
            mark = "["
            for inner in value:
                text.append(mark)
                add(inner, depth + 1)
                mark = ","
            text.append("]" if value else "[]")
        else:
            text.append(json.dumps(value))

    add(value)
    spelled = "".join(text)
    if len(spelled) + zeros > MAX_METADATA:
        raise UnstorableValue("must have at most 4096 bytes")
    return spelled


def number_of_zeros(number: Number) -> int:
    """The most digits that PostgreSQL adds when it writes a number out: 1e3 has three. Raises UnstorableValue."""
    exponent = EXPONENT.search(number)
    if len(number) > MAX_NUMBER or (exponent and (len(exponent[1]) > 4 or int(exponent[1] or 0) > MAX_NUMBER)):
        raise UnstorableValue(f"must not have a number of more than {MAX_NUMBER} digits")
    return int(exponent[1] or 0) if exponent else 0


def id_error(value: object) -> str | None:
    if isinstance(value, str) and ORDINARY.fullmatch(value):
        return None
    digits = digits_of(value)
    if digits is None or digits == "":
        return "must be given" if value is MISSING or value is None else "must be a positive integer"
    return None if in_bigint(digits) else "must be below 2^63"


def after_error(value: object) -> str | None:
    digits = digits_of(value)
    return "must be an id" if digits is None or not in_bigint(digits) else None


def limit_error(value: object) -> str | None:
    digits = digits_of(value)
    if digits is None or len(digits) > 4 or not 1 <= int(digits or "0") <= MAX_LIMIT:
        return f"must be an integer from 1 to {MAX_LIMIT}"
    return None


def wait_error(value: object) -> str | None:
    digits = digits_of(value)
    if digits is None or len(digits) > 2 or int(digits or "0") > MAX_WAIT:
        return f"must be an integer from 0 to {MAX_WAIT}"
    return None


def read_id(value: object) -> Reading:
    if isinstance(value, str) and ORDINARY.fullmatch(value):
        return right(value)
    found = id_error(value)
    return wrong(found) if found else right(significant(str(value)))


def read_amount(value: object) -> Reading:
    """An amount in decimal digits, or as a hex quantity (Ethereum's JSON-RPC, "0x1f")."""
    if isinstance(value, str) and ORDINARY.fullmatch(value):
        return right(value)
    if value is MISSING or value is None:
        return wrong("must be given")
    digits = digits_of(value)
    if digits is None and isinstance(value, str) and HEX_QUANTITY.fullmatch(value):
        digits = digits_of_hex(value)
    if digits is None:
        return wrong("must be a whole number that is not negative, a string of its digits, or a hex quantity")
    return wrong("must be below 2^256") if len(digits) > MAX_AMOUNT_DIGITS else right(digits or "0")


def digits_of_hex(quantity: str) -> str:
    """The decimal digits of a hex quantity; of one that is too large, more than any amount has."""
    digits = significant(quantity[2:])
    return "9" * (MAX_AMOUNT_DIGITS + 1) if len(digits) > MAX_HEX_DIGITS else significant(str(int(digits or "0", 16)))


def text_error(value: object) -> str | None:
    if value is MISSING or value is None:
        return "must be given"
    if not isinstance(value, str) or isinstance(value, Number):
        return "must be a string"
    if "\0" in value:
        return "must not contain control characters"
    if SURROGATES.search(value):
        return "must not contain half of a surrogate pair"
    return None


def wrong(reason: str) -> Reading:
    return {"": reason}, None


def right(spelled: str) -> Reading:
    return {}, spelled


def verbatim(reason: Callable[[object], str | None]) -> Callable[[object], Reading]:
    """Return a reader of values that PostgreSQL takes as they are spelled."""

    def read_verbatim(value: object) -> Reading:
        found = reason(value)
        return wrong(found) if found else right(str(value))

    return read_verbatim


def read_time(value: object) -> Reading:
    """A time as in RFC 3339: with its offset."""
    match = TIME.fullmatch(str(value))
    if match:
        date, time, seconds, fraction, offset = match.groups(default="")
        leaps = seconds == LEAP_SECOND
        spelled = f"{date}T{time}:{'59' if leaps else seconds}{fraction[:7]}{offset.upper().replace(' ', '+')}"
        with suppress(ValueError, OverflowError):
            moment = datetime.fromisoformat(spelled)
            if leaps:
                return read_leap_second(moment)
            # PostgreSQL knows offsets below 16 hours, RFC 3339 below 24.
            return right(spelled if offset[1:3] < "16" else moment.astimezone(UTC).isoformat())
    return wrong("must be a time as in RFC 3339, with its offset")


def read_leap_second(before: datetime) -> Reading:
    """The second after the last one of a UTC day, which computers count as the first one of the next day."""
    moment = (before + timedelta(seconds=1)).astimezone(UTC)
    if (moment.hour, moment.minute, moment.second) != (0, 0, 0):
        return wrong("must be a time as in RFC 3339: a leap second ends a day in UTC")
    return right(moment.isoformat())


def read_boolean(value: object) -> Reading:
    return right(str(value)) if value in ("true", "false") else wrong("must be true or false")


def read_order(value: object) -> Reading:
    """Whether the newest come first."""
    return {"asc": right("false"), "desc": right("true")}.get(str(value)) or wrong("must be asc or desc")


def read_object(value: object) -> Reading:
    if not isinstance(value, Members):
        return wrong("must be a JSON object")
    try:
        return right(to_json(value))
    except UnstorableValue as reason:
        return wrong(str(reason))


def read_json(value: object) -> Reading:
    """A JSON object that is given as text."""
    with suppress(ValueError, RecursionError):
        return read_object(DECODER.decode(str(value)))
    return wrong("must be a JSON object")


@dataclass
class Lines:
    """The lines of a list of transfers or joins as JSON texts, and the errors of those that have none, by line."""

    texts: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.texts) + len(self.errors)

    def add(self, line: object) -> None:
        try:
            self.texts.append(line_to_json(line))
        except UnstorableValue as reason:
            self.errors[f"[{len(self)}]{reason.part}"] = str(reason)


def read_lines(value: object) -> Reading:
    """Read the lines of a list of transfers or joins. SQL checks their content."""
    if value is MISSING or value is None:
        return wrong("must be given")
    if isinstance(value, list):
        lines = value[: MAX_LINES + 1]
        value = Lines()
        for line in lines:
            value.add(line)
    if not isinstance(value, Lines):
        return wrong("must be a list")
    if len(value) > MAX_LINES:
        return wrong(f"must have 1 to {MAX_LINES} lines")
    return value.errors, None if value.errors else f"[{','.join(value.texts)}]"


MOVEMENT = frozenset({"from", "to", "amount"})
TEXTS = frozenset({"username", "address"})


def line_to_json(line: object) -> str:
    """Return a line as JSON text, in which SQL finds its errors. Raises UnstorableValue."""
    if not isinstance(line, Members):
        return "null"
    if line.repeated:
        raise UnstorableValue("must be given once", f".{printable(min(line.repeated))}")
    return f"{{{','.join([member_to_json(name, value) for name, value in line.items()])}}}"


def member_to_json(name: str, value: object) -> str:
    if name in MOVEMENT:
        # SQL reads numbers sooner than strings, and finds the same errors in them.
        if isinstance(value, str) and value.isdigit() and value.isascii() and len(value) <= MAX_AMOUNT_DIGITS:
            return f'"{name}":{value if value[0] != "0" else significant(value) or "0"}'
        # A string keeps the spelling: jsonb would make 100 of 1e2.
        if value.__class__ is Number and len(value) < MAX_NUMBER:
            return f'"{name}":"{value}"'
        return f'"{name}":{scalar_to_json(name, value)}'
    if name in TEXTS:
        return f'"{name}":{text_to_json(name, value)}'
    if name != "metadata":
        return f"{to_json(name)}:null"  # its value does not matter
    try:
        return f'"metadata":{to_json(value)}'
    except UnstorableValue as reason:
        raise UnstorableValue(str(reason), ".metadata") from None


def scalar_to_json(name: str, value: object) -> str:
    """Return an id or an amount as a JSON string, and an empty one for any other value."""
    if value is None:
        return "null"
    if name == "amount" and isinstance(value, str) and HEX_QUANTITY.fullmatch(value):
        return f'"{digits_of_hex(value)}"'
    if isinstance(value, str) and len(value) < MAX_NUMBER:
        return to_json(str(value))
    return f'"{digits_of(value) or ""}"'


def text_to_json(name: str, value: object) -> str:
    """Return a text as a JSON string, and false for any other value. Raises UnstorableValue."""
    if value is None:
        return "null"
    if not isinstance(value, str) or isinstance(value, Number):
        return "false"
    reason = text_error(value)
    if reason:
        raise UnstorableValue(reason, f".{name}")
    return json.dumps(value, ensure_ascii=False)


# How a value of each kind is read, and its type in PostgreSQL.
KINDS: dict[Kind, tuple[Callable[[object], Reading], str]] = {
    "id": (read_id, "bigint"),
    "after": (verbatim(after_error), "bigint"),
    "limit": (verbatim(limit_error), "integer"),
    "amount": (read_amount, "numeric"),
    "text": (verbatim(text_error), "text"),
    "idempotency_key": (verbatim(text_error), "text"),
    "time": (read_time, "timestamptz"),
    "boolean": (read_boolean, "boolean"),
    "order": (read_order, "boolean"),
    "object": (read_object, "jsonb"),
    "json": (read_json, "jsonb"),
    "lines": (read_lines, "jsonb"),
    "joins": (read_lines, "jsonb"),
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
