"""Make JSON schemas (2020-12) of the values of requests and answers, and of problems.

The rules are in SQL. These schemas let a client check a value beforehand; tests compare them with the service.
"""

from collections.abc import Iterator, Mapping

from api.http.values import MAX_ID, MAX_LIMIT, MAX_WAIT
from api.problems import PROBLEMS, SQLSTATES
from api.routes import (
    ADDRESS,
    CHECKPOINT,
    ENTRY,
    GROUP,
    HEALTH,
    JOINED,
    LEAF,
    LIST_SUMMARY,
    MOVED,
    NODE,
    PARTICIPANT,
    PROOF,
    STATEMENT,
    STATEMENT_LINE,
    TRANSFER,
    Argument,
    Route,
    Shape,
)

Schema = dict[str, object]

MAX_AMOUNT = 2**256 - 1
MAX_LINES = 10_000  # of a list of transfers or joins

# Characters that a name may not have, and those that may not be all of it. Rarer rules are only in SQL.
CONTROLS = r"\u0000-\u001f\u007f-\u009f"
BLANKS = r" \u00a0\u00ad\u1680\u180e\u2000-\u200f\u2028\u2029\u202f\u205f-\u2064\u3000\ufeff"
INVISIBLES = (
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f"
    r"\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb"
)
NO_NAME = CONTROLS + INVISIBLES
SHOWS_NOTHING = NO_NAME + r" \u00a0\u1680\u2000-\u200a\u200d\u202f\u205f\u2800\u3000\ufe0f"


def digits(minimum: int, maximum: int) -> str:
    """A regular expression for numbers from minimum, 0 or 1, spelled with at most as many digits as maximum has.

    Zeros before them aside. The exact bound is in the description: an expression of it would have thousands of
    characters.
    """
    zero = "0|" if minimum == 0 else ""
    return f"^0*(?:{zero}[1-9][0-9]{{0,{len(str(maximum)) - 1}}})$"


def hex_quantity(minimum: int, maximum: int) -> str:
    """The same for numbers in hexadecimal digits after 0x, as Ethereum's JSON-RPC writes them."""
    zero = "0|" if minimum == 0 else ""
    return f"^0x0*(?:{zero}[1-9a-fA-F][0-9a-fA-F]{{0,{len(f'{maximum:x}') - 1}}})$"


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def whole(minimum: int, maximum: int, **more: object) -> Schema:
    return {"type": "integer", "minimum": minimum, "maximum": maximum} | more


def given(minimum: int, maximum: int, description: str) -> Schema:
    """A number of a request: as JSON's, or as a string of its digits."""
    return {
        "description": description,
        "anyOf": [whole(minimum, maximum), {"type": "string", "pattern": digits(minimum, maximum)}],
    }


def given_amount(minimum: int, description: str) -> Schema:
    """An amount of a request, which may also be a hex quantity."""
    spelled = "|".join(f"(?:{pattern(minimum, MAX_AMOUNT)})" for pattern in (digits, hex_quantity))
    return {
        "description": description,
        "anyOf": [whole(minimum, MAX_AMOUNT), {"type": "string", "pattern": spelled}],
    }


def answered_amount(description: str, **bounds: int) -> Schema:
    """An amount of an answer: as JSON's number, or as a string of its digits for clients that prefer it."""
    return {
        "description": f"{description}. A string with `Prefer: amounts=string`.",
        "anyOf": [{"type": "integer", "minimum": 0} | bounds, {"type": "string", "pattern": "^(?:0|[1-9][0-9]*)$"}],
    }


def members(properties: Mapping[str, object], required: list[str]) -> Schema:
    """An object with these members and no others."""
    return {"type": "object", "properties": {**properties}, "required": required, "additionalProperties": False}


ID: Schema = whole(1, int(MAX_ID), format="int64")
TIME: Schema = {"type": "string", "format": "date-time"}
OBJECT: Schema = {"type": "object", "additionalProperties": True}
COUNT: Schema = whole(0, int(MAX_ID), format="int64")

# Schemas that many places share.
SHARED: dict[str, Schema] = {
    "Id": ID,
    "GivenId": given(1, int(MAX_ID), "An id below 2^63, or its digits."),
    "GivenAmount": given_amount(0, "A whole number below 2^256, its digits, or a hex quantity."),
    "GivenPositiveAmount": given_amount(1, "A whole number from 1 to below 2^256, its digits, or a hex quantity."),
    "Amount": answered_amount("A whole number below 2^256", maximum=MAX_AMOUNT),
    "Total": answered_amount("A whole number without a bound"),
    "Change": {
        "description": "A whole number between -2^256 and 2^256. A string with `Prefer: amounts=string`.",
        "anyOf": [whole(-MAX_AMOUNT, MAX_AMOUNT), {"type": "string", "pattern": "^(?:0|-?[1-9][0-9]*)$"}],
    },
    "Name": {
        "description": "1 to 255 characters once they are composed (NFC), as they are stored. Not blank, without"
        " control characters or invisible ones, which bidirectional controls are, too.",
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "pattern": f"^[^{NO_NAME}]*[^{SHOWS_NOTHING}][^{NO_NAME}]*$",
    },
    "KeptName": {"description": "A `Name`, or one from before a rule of names.", "type": "string", "minLength": 1},
    "Reference": {
        "description": "1 to 255 characters, not blank, without control characters.",
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "pattern": f"^[^{CONTROLS}]*[^{CONTROLS}{BLANKS}][^{CONTROLS}]*$",
    },
    "Hash": {"description": "SHA-256 in hex.", "type": "string", "pattern": "^0x[0-9a-f]{64}$"},
    "PlainAddress": {"description": "20 bytes in hex.", "type": "string", "pattern": "^0x[0-9a-f]{40}$"},
    "Address": {
        "description": "An address on the main network, other than zero. An answer has the checksum of EIP-55, and so"
        " must a request in mixed case.",
        "type": "string",
        "pattern": "^0x[0-9a-fA-F]{40}$",
    },
    "Metadata": {"description": "At most 4096 bytes of JSON, without NUL characters.", **OBJECT},
    "TransferLine": members(
        {
            "from": ref("GivenId"),
            "to": {**ref("GivenId"), "description": "Another participant than `from`."},
            "amount": ref("GivenPositiveAmount"),
            "metadata": {"anyOf": [ref("Metadata"), {"type": "null"}]},
        },
        ["from", "to", "amount"],
    ),
    "JoinLine": members(
        {
            "username": ref("Name"),
            "amount": ref("GivenAmount"),
            "address": {"anyOf": [ref("Address"), {"type": "null"}]},
            "metadata": {"anyOf": [ref("Metadata"), {"type": "null"}]},
        },
        ["username", "amount"],
    ),
}

# The shapes of answers that have a name, and their members that may be null.
NAMES: dict[Shape, str] = {
    HEALTH: "Health",
    GROUP: "Group",
    PARTICIPANT: "Participant",
    TRANSFER: "Transfer",
    MOVED: "Movement",
    JOINED: "Joined",
    LIST_SUMMARY: "ListSummary",
    ENTRY: "Entry",
    STATEMENT: "Statement",
    STATEMENT_LINE: "StatementLine",
    CHECKPOINT: "Checkpoint",
    LEAF: "Leaf",
    NODE: "Node",
    PROOF: "Proof",
}
NULLABLE: dict[Shape, set[str]] = {
    ADDRESS: {"address"},
    LEAF: {"exit_entry"},
    STATEMENT_LINE: {"counterparty_id", "counterparty_username", "metadata"},
    ENTRY: {member.name for member in ENTRY} - {"id", "group_id", "kind", "amount", "created_at"},
}

ANSWERED: dict[str, Schema] = {
    "status": {"const": "ok"},
    "name": ref("KeptName"),
    "username": ref("KeptName"),
    "id": ref("Id"),
    "first_entry_id": ref("Id"),
    "last_entry_id": ref("Id"),
    "count": {"description": "The number of lines.", **whole(1, MAX_LINES)},
    "group_id": ref("Id"),
    "kind": {"type": "string", "enum": ["join", "deposit", "transfer", "exit"]},
    "from": {**ref("Id"), "description": "The sender; null for a join or a deposit."},
    "to": {**ref("Id"), "description": "The recipient; null for an exit."},
    "from_amount": {**ref("Amount"), "description": "The sender's balance after it."},
    "to_amount": {**ref("Amount"), "description": "The recipient's balance after it."},
    "created_at": TIME,
    "counterparty_id": {**ref("Id"), "description": "The other side; null for a join, a deposit and an exit."},
    "counterparty_username": {**ref("KeptName"), "description": "The other side's present username."},
    "change": {**ref("Change"), "description": "What it added to the balance; negative for what was sent."},
    "balance": {**ref("Amount"), "description": "The participant's balance after it."},
    "opening_balance": {**ref("Amount"), "description": "The balance before the period; 0 before the join."},
    "closing_balance": {**ref("Amount"), "description": "The balance at the period's end; 0 after the exit."},
    "metadata": ref("Metadata"),
    "reverses": {**ref("Id"), "description": "The entry that this one takes back."},
    "reversed_by": {**ref("Id"), "description": "The entry that took this one back."},
    "reference": {**ref("Reference"), "description": "The transaction on the main network that paid an exit out."},
    "settled_at": TIME,
    "address": ref("Address"),
    "amount": ref("Amount"),
    "final_amount": ref("Amount"),
    "group_total": ref("Total"),
    "number": {**ref("Id"), "description": "Number of the checkpoint in its group, from 1."},
    "chain_id": {**whole(0, MAX_AMOUNT), "description": "The chain of the group's vault; 0 without one."},
    "vault": {**ref("PlainAddress"), "description": "The group's vault; 0 without one."},
    "previous": {
        **ref("Hash"),
        "description": "The header of the checkpoint before it, that its vault accepted if there is one, or 0.",
    },
    "deposits": {**COUNT, "description": "How many joins and deposits it includes, or deposits into the vault."},
    "credited": {**ref("Amount"), "description": "The sum of the joins' and deposits' amounts."},
    "settled": {**ref("Amount"), "description": "The sum of the settled exits' amounts."},
    "leaf_count": {**COUNT, "description": "How many leaves the tree has."},
    "total": {**ref("Amount"), "description": "The sum of the leaves' amounts."},
    "root": {**ref("Hash"), "description": "The root of the tree; 0 without a leaf."},
    "header": {**ref("Hash"), "description": "SHA-256 of all these."},
    "seal": {**ref("Hash"), "description": "SHA-256 of the group's entries up to the checkpoint."},
    "state": {
        "type": "string",
        "enum": ["prepared", "accepted", "closed", "vetoed", "abandoned"],
        "description": "What became of it at the group's vault; only where the group has one.",
    },
    "index": {**COUNT, "description": "From 0."},
    "participant_id": ref("Id"),
    "exit_entry": {**ref("Id"), "description": "The exit, which is not settled; null while present."},
    "owner": {**ref("PlainAddress"), "description": "The participant's address on the main network; 0 without one."},
    "sum": {**ref("Amount"), "description": "The sum of the amounts of the leaves below the node."},
    "hash": ref("Hash"),
}


def answer(shape: Shape) -> Schema:
    """The schema of an answer: a reference where its shape has a name."""
    return ref(NAMES[shape]) if shape in NAMES else object_of(shape)


def object_of(shape: Shape) -> Schema:
    properties = dict(properties_of(shape))
    return members(properties, [member.name for member in shape if not member.optional])


def properties_of(shape: Shape) -> Iterator[tuple[str, Schema]]:
    for member in shape:
        if member.members:
            inner = answer(member.members)
            yield member.name, {"type": "array", "items": inner} if member.is_list else inner
        else:
            schema = ANSWERED[member.name]
            nullable = member.name in NULLABLE.get(shape, ())
            yield member.name, {"anyOf": [schema, {"type": "null"}]} if nullable else schema


# The schema of a query's parameter, by its kind or, where the kind is "text", by its name.
QUERY: dict[str, Schema] = {
    "id": ID,
    "after": whole(0, int(MAX_ID), format="int64", default=0),
    "limit": whole(1, MAX_LIMIT, default=MAX_LIMIT),
    "time": TIME,
    "boolean": {"type": "boolean"},
    "order": {"type": "string", "enum": ["asc", "desc"], "default": "asc"},
    "json": OBJECT,
    "kind": ANSWERED["kind"],
    "name": {"type": "string", "pattern": r"^[^\u0000]*$"},
    "username": {"type": "string", "pattern": r"^[^\u0000]*$"},
    "cursor": {"type": "string", "pattern": f"^[0-9]{{1,9}}-(?:0|[1-9][0-9]{{0,18}})-{digits(1, int(MAX_ID))[1:]}"},
}
WAIT: Schema = whole(0, MAX_WAIT, default=0)
IDEMPOTENCY_KEY: Schema = {"type": "string", "pattern": "^[!-~]{1,255}$"}


def queried(route: Route, argument: Argument) -> Schema:
    """The schema of a parameter of a query."""
    if argument.kind == "text":
        return QUERY["cursor" if route.feed else argument.name]
    return QUERY[argument.kind]


# The schema of a body's member, by its kind.
GIVEN: dict[str, Schema] = {
    "id": ref("GivenId"),
    "amount": ref("GivenAmount"),
    "text": ref("Name"),
    "object": {"anyOf": [ref("Metadata"), {"type": "null"}]},
    "lines": {"type": "array", "items": ref("TransferLine"), "minItems": 1, "maxItems": MAX_LINES},
    "joins": {"type": "array", "items": ref("JoinLine"), "minItems": 1, "maxItems": MAX_LINES},
}


def body(route: Route) -> Schema:
    """The schema of a route's body."""
    properties = {argument.name: GIVEN[argument.kind] for argument in route.body}
    if "reference" in properties:
        properties["reference"] = ref("Reference")
    for argument in route.body:
        if argument.name == "address":
            properties["address"] = (
                {"anyOf": [ref("Address"), {"type": "null"}]} if argument.optional else ref("Address")
            )
    if route.function in ("transfer", "deposit"):  # a join may bring 0
        properties["amount"] = ref("GivenPositiveAmount")
    if route.echoes:
        properties[route.echoes] = {**ref("GivenId"), "description": "The one in the path."}
    plain = members(properties, [argument.name for argument in route.body if not argument.optional])
    return {"oneOf": [plain, members({route.wrapper: plain}, [route.wrapper])]} if route.wrapper else plain


def problem(code: str) -> Schema:
    """The schema of a refusal with that code (RFC 9457)."""
    status, title = PROBLEMS[code]
    states = [state + "[0-9A-Z]{3}" * (len(state) == 2) for state, its in SQLSTATES.items() if its == code]
    by_field = members({}, []) | {
        "minProperties": 1,
        "additionalProperties": {"type": "array", "items": {"type": "string"}, "minItems": 1},
    }
    without_fields = members({"detail": {"const": title}}, ["detail"])
    has_fields = any(state.startswith("LG") for state in states)
    properties: Schema = {
        "type": {"const": f"/problems/{code.replace('_', '-')}"},
        "title": {"const": title},
        "status": {"const": status},
        "detail": {"type": "string", "minLength": 1},
        "code": {"const": code},
    }
    if states:
        properties["sqlstate"] = {"type": "string", "pattern": f"^(?:{'|'.join(states)})$"}
    if code == "internal_error":
        properties["request_id"] = {"type": "string", "description": "The request's name in the log."}
    properties["errors"] = {"oneOf": [by_field, without_fields]} if has_fields else without_fields
    return members(properties, [name for name in properties if name != "sqlstate"])
