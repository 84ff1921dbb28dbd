"""Parse the Prefer header (RFC 7240)."""

import re
from collections.abc import Iterable, Iterator

# Possessive, so that no header takes longer to read than its length asks for.
WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
QUOTED = r'"(?:[^"\\]|\\.)*+"'
VALUE = rf"(?:[ \t]*+=[ \t]*+({WORD}|{QUOTED}))?+"
# A preference and its value. Parameters follow, which none that is known here has.
PREFERENCE = re.compile(rf"[ \t]*+({WORD}){VALUE}(?:[ \t]*+;[ \t]*+(?:{WORD}{VALUE})?+)*+[ \t]*+(?:,|\Z)", re.DOTALL)
# Text that is no preference, up to the next one. A quoted string that does not end takes all the rest.
OTHER = re.compile(r'(?:"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[^,"])*+(?:,|\Z)', re.DOTALL)
ESCAPED = re.compile(r"\\(.)")


def prefers(headers: Iterable[str], name: str, value: str) -> bool:
    """Whether the first preference of that name, in lower case, has that value, in lower case."""
    return value == next((given for each, given in preferences(", ".join(headers)) if each == name), None)


def preferences(header: str) -> Iterator[tuple[str, str]]:
    """Yield each preference and its value, in lower case; a missing value is empty. Other text is left out."""
    place = 0
    while place < len(header):
        match = PREFERENCE.match(header, place)
        if match is not None:
            given = match[2] or ""
            yield match[1].lower(), (ESCAPED.sub(r"\1", given[1:-1]) if given.startswith('"') else given).lower()
        else:
            match = OTHER.match(header, place)
            assert match is not None
        place = match.end()
