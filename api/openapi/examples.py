"""An example of each call and of each refusal, for the OpenAPI description: the tutorial's story of alice and bob."""

import json
from dataclasses import dataclass

from api.http.statement import PLAIN, TIMES
from api.problems import SQLSTATES, Problem
from api.routes import AMOUNTS, NDJSON, Route

Json = dict[str, object]

TIME = "2026-01-05T09:30:00+00:00"
UUID = "8e03978e-40d5-43e8-bc93-6894a57f9324"

ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"

ETH: Json = {"name": "ETH", "id": 1}


def alice(amount: int) -> Json:
    return {"username": "alice", "id": 1, "group_id": 1, "amount": amount}


def bob(amount: int) -> Json:
    return {"username": "bob", "id": 2, "group_id": 1, "amount": amount}


def entry(**members: object) -> Json:
    nothing = dict.fromkeys(("reverses", "reversed_by", "reference", "settled_at"))
    return {"id": 3, "group_id": 1, **members, "created_at": TIME, "metadata": None, **nothing}


JOIN = entry(id=1, kind="join") | {"from": None, "to": 1, "amount": 100, "from_amount": None, "to_amount": 100}
TRANSFER = entry(kind="transfer") | {"from": 2, "to": 1, "amount": 50, "from_amount": 50, "to_amount": 150}
ORDERED = TRANSFER | {"metadata": {"order": 17}}
REVERSAL = TRANSFER | {"id": 4, "from": 1, "to": 2, "from_amount": 100, "to_amount": 100, "reverses": 3}
EXIT = entry(id=5, kind="exit") | {"from": 1, "to": None, "amount": 100, "from_amount": 0, "to_amount": None}
SETTLED = EXIT | {"reference": "0x5f", "settled_at": TIME}

LINES: list[Json] = [
    {
        "id": 3,
        "kind": "transfer",
        "created_at": TIME,
        "counterparty_id": 2,
        "counterparty_username": "bob",
        "change": 50,
        "balance": 150,
        "metadata": {"order": 17},
    }
]
STATEMENT: Json = {
    "username": "alice",
    "id": 1,
    "group_id": 1,
    "opening_balance": 100,
    "lines": LINES,
    "closing_balance": 150,
}

NOBODY = "0x" + "00" * 20
CHECKPOINT: Json = {
    "group_id": 1,
    "number": 1,
    "chain_id": 0,
    "vault": NOBODY,
    "previous": "0x" + "00" * 32,
    "deposits": 2,
    "credited": 200,
    "settled": 0,
    "leaf_count": 2,
    "total": 200,
    "root": "0xf88b9c793f5660797f91451a92ae3927b194a529d0be1f7f75cc84462c2c3758",
    "header": "0x0467a440b6160741736187cf1f65389fe358450e7f4326bfe0d5d0405a30491f",
    "seal": "0x96bc5e32bac69993d79103523a1dfa038f2f8024a2c2033391fb4db9e2c995db",
    "created_at": TIME,
}
LEAF: Json = {"index": 0, "participant_id": 1, "exit_entry": None, "owner": NOBODY, "amount": 150}
SIBLING: Json = {"sum": 50, "hash": "0xf7f09fa905fbcbe8e9799841070e2fffd886e2acf2e8ff8b50fe2ea739e7697a"}


@dataclass(frozen=True)
class Example:
    """The request and the answer of a function's example; `id` is the last one in its path."""

    data: object
    body: Json | None = None
    id: int = 1
    next: str | None = None
    minimal: Json | None = None


EXAMPLES: dict[str, Example] = {
    "health": Example({"status": "ok"}),
    "list_groups": Example([ETH, {"name": "BTC", "id": 2}], next="/api/groups?after=2&limit=2"),
    "create_group": Example(ETH, {"name": "ETH"}),
    "get_group": Example(ETH),
    "rename_group": Example(ETH, {"name": "ETH"}),
    "remove_group": Example(None),
    "group_total": Example({"group_total": 200}),
    "list_participants": Example([alice(150), bob(50)], next="/api/groups/1/participants?after=2&limit=2"),
    "join_group": Example(alice(100), {"username": "alice", "amount": 100, "metadata": {"transaction": "0x1a"}}),
    "join_all": Example(
        {
            "entries": [{"id": 1, "to": 1, "amount": 100}, {"id": 2, "to": 2, "amount": 100}],
            "participants": [alice(100), bob(100)],
        },
        {"participants": [{"username": "alice", "amount": 100}, {"username": "bob", "amount": "100"}]},
        minimal={"first_entry_id": 1, "last_entry_id": 2, "count": 2},
    ),
    "get_participant": Example(alice(150)),
    "rename_participant": Example(alice(150), {"username": "alice"}),
    "exit_group": Example({"final_amount": 150}, {"metadata": {"address": "0x2b"}}),
    "deposit": Example(alice(125), {"amount": 25, "metadata": {"transaction": "0x1b"}}),
    "get_address": Example({"address": ADDRESS}),
    "bind_address": Example({"address": ADDRESS}, {"address": ADDRESS}),
    "transfer": Example(
        {"to_participant": alice(150), "from_participant": bob(50)},
        {"from": 2, "to": 1, "amount": 50, "metadata": {"order": 17}},
    ),
    "transfer_all": Example(
        {
            "entries": [
                {"id": 3, "from": 1, "to": 2, "amount": 100, "from_amount": 0, "to_amount": 200},
                {"id": 4, "from": 2, "to": 1, "amount": 150, "from_amount": 50, "to_amount": 150},
            ],
            "participants": [alice(150), bob(50)],
        },
        {"transfers": [{"from": 1, "to": 2, "amount": 100}, {"from": 2, "to": 1, "amount": "150"}]},
        minimal={"first_entry_id": 3, "last_entry_id": 4, "count": 2},
    ),
    "list_entries": Example([JOIN, ORDERED], next="/api/groups/1/entries?after=3&limit=2"),
    "list_participant_entries": Example([JOIN, ORDERED], next="/api/groups/1/participants/1/entries?after=3&limit=2"),
    "get_statement": Example(STATEMENT, next="/api/groups/1/participants/1/statement?after=3&limit=1"),
    "get_entry": Example(ORDERED, id=3),
    "reverse_transfer": Example(REVERSAL, {"metadata": {"ticket": 4}}, id=3),
    "settle_exit": Example(SETTLED, {"reference": "0x5f"}, id=5),
    "checkpoint": Example(CHECKPOINT),
    "list_checkpoints": Example([CHECKPOINT], next="/api/groups/1/checkpoints?after=1&limit=1"),
    "get_checkpoint": Example(CHECKPOINT),
    "list_leaves": Example([LEAF], next="/api/groups/1/checkpoints/1/leaves?after=1&limit=1"),
    "get_proof": Example({"checkpoint": CHECKPOINT, "leaf": LEAF, "siblings": [SIBLING]}),
    "read_feed": Example([JOIN, TRANSFER], next="/api/entries?after=1-742-3&limit=2"),
    "feed_end": Example([], next="/api/entries?after=1-742-9223372036854775807&limit=1000"),
}

# What parameters of a query and of the header may be.
PARAMETERS: Json = {
    "after": 0,
    "at": 3,
    "before": 5,
    "from": "2026-01-01T00:00:00Z",
    "kind": "exit",
    "limit": 100,
    "metadata": {"order": 17},
    "name": "ETH",
    "order": "desc",
    "settled": False,
    "since": "2026-01-01T00:00:00Z",
    "to": "2026-02-01T00:00:00Z",
    "until": "2026-02-01T00:00:00Z",
    "username": "bob",
    "Prefer": "amounts=string",
    "X-Request-ID": "payout-17",
}
CURSOR = "1-742-3"

# Of each code its detail, and the fields to blame.
REFUSALS: dict[str, tuple[str, dict[str, list[str]]]] = {
    "unauthorized": ("an API key is needed", {}),
    "forbidden": ("the key's scope is read, and transact is needed", {}),
    "foreign_origin": ("a page of another origin sent this; it may only once API keys are required", {}),
    "invalid_json": ("the body must be a JSON object", {}),
    "bad_request": ("bad request", {}),
    "insufficient_funds": ("participant 2 has 100, cannot send 150", {"amount": ["exceeds the balance of 100"]}),
    "not_found": ("no group 1", {}),
    "method_not_allowed": ("/api/groups knows GET, HEAD, POST, OPTIONS", {}),
    "request_timeout": ("Request Timeout", {}),
    "group_not_empty": ("group 1 has participants", {}),
    "already_reversed": ("entry 3 of group 1 was reversed before", {}),
    "already_settled": ("exit 5 of group 1 was settled with another reference", {"reference": ["is 0x5e already"]}),
    "address_bound": (
        "participant 1 has another address",
        {"address": ["is 0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359 already"]},
    ),
    "group_too_large": (
        "group 1 was credited 2^256 in all, and a checkpoint holds less than 2^256",
        {},
    ),
    "vault_linked": (
        "group 1 is linked to a vault",
        {"group_id": ["is not accepted in a group that is linked to a vault"]},
    ),
    "vault_mismatch": (
        "group 1 is linked to no vault",
        {"group_id": ["does not fit the record"]},
    ),
    "group_frozen": ("group 1 is frozen", {"group_id": ["is frozen by an emergency of its vault"]}),
    "cursor_expired": (
        "the cursor belongs to a feed that has ended",
        {"after": ["belongs to a feed that has ended"]},
    ),
    "body_too_large": ("a body may have 1048576 bytes", {}),
    "unsupported_media_type": ("the body must be application/json in UTF-8", {}),
    "expectation_failed": ("Unknown Expect", {}),
    "invalid_value": ("limt is not known", {"limt": ["is not known"]}),
    "already_taken": ('name "ETH" is taken by group 1', {"name": ["has already been taken"]}),
    "idempotency_key_reused": (
        "idempotency key belongs to another request",
        {"Idempotency-Key": ["was used for another request"]},
    ),
    "header_too_large": ("the request's header is too large", {}),
    "internal_error": ("an internal error; the log knows more", {}),
    "busy": ("the server is busy; nothing was done", {}),
    "unavailable": ("the database cannot be reached; nothing was done", {}),
    "outcome_unknown": (
        "the connection to the database was lost before it answered; whether the call was done is not known",
        {},
    ),
}


def refusal(code: str, route: Route | None = None) -> Problem:
    """Return a problem with that code, of a call of the route."""
    detail, errors = REFUSALS[code]
    state = next((state for state, its in SQLSTATES.items() if its == code and state.startswith("LG")), None)
    if code == "invalid_value":
        state = None
        if route and route.body and route.needs_body:
            name = route.body[0].name
            detail, errors = f"{name} must be given", {name: ["must be given"]}
    if code == "already_taken" and route:
        text = next((argument.name for argument in route.body if argument.kind == "text"), "username")
        name = f"{route.lines}[1].{text}" if route.lines else text
        owner = "group 1" if name == "name" else "participant 2"
        detail, errors = f'{name} "ETH" is taken by {owner}', {name: ["has already been taken"]}
    if code == "cursor_expired" and route and route.function in ("checkpoint", "feed_end"):
        detail, errors = "the ledger was restored into another server, so the feed has ended", {}
    request_id = UUID if code == "internal_error" else None
    return Problem(code, detail, errors, state, request_id=request_id)


def file(media_type: str, route: Route) -> str:
    """Return the example of a list's rows as a file."""
    example = EXAMPLES[route.function].data
    if media_type == NDJSON:
        assert isinstance(example, list)
        return "".join(f"{json.dumps(row, separators=(',', ':'))}\n" for row in example)
    if isinstance(example, list):
        rows = example
    else:
        ends = {"opening": STATEMENT["opening_balance"], "closing": STATEMENT["closing_balance"]}
        first, last = ({"kind": kind, "balance": balance} for kind, balance in ends.items())
        rows = [first, *LINES, last]
    names = [member.name for member in route.rows]
    lines = [names, *([as_cell(name, row.get(name)) for name in names] for row in rows)]
    return "".join(f"{','.join(line)}\r\n" for line in lines)


def as_cell(name: str, value: object) -> str:
    if value is None:
        return ""
    text = json.dumps(value) if isinstance(value, dict) else str(value)
    return text if name in PLAIN | TIMES else '"{}"'.format(text.replace('"', '""'))


def as_strings(value: object, name: str = "") -> object:
    """Return an answer as clients get it that prefer amounts as strings."""
    if isinstance(value, dict):
        return {member: as_strings(inner, member) for member, inner in value.items()}
    if isinstance(value, list):
        return [as_strings(inner) for inner in value]
    return str(value) if name in AMOUNTS and value is not None else value
