"""The table of routes: the whole HTTP surface, each line the function call that it makes."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

# The members whose values are amounts.
AMOUNTS = frozenset(
    {"amount", "from_amount", "to_amount", "final_amount", "group_total", "credited", "settled", "total", "sum"}
    | {"change", "balance", "opening_balance", "closing_balance"}
)


@dataclass(frozen=True)
class Member:
    """A member of an answer and the column of the function's row that holds its value.

    A composite value has `members` of its own; with `is_list` it is an array of such values. An `optional` member is
    left out where its value is null; then no other member of the answer is ever null.
    """

    name: str
    column: str
    members: "Shape" = ()
    is_list: bool = False
    optional: bool = False


# The members of an answer, in their order.
Shape = tuple[Member, ...]


def columns(*names: str) -> Shape:
    """Members that have the names of their columns."""
    return tuple(Member(name, name) for name in names)


HEALTH = columns("status")
GROUP = columns("name", "id")
TOTAL = columns("group_total")
PARTICIPANT = columns("username", "id", "group_id", "amount")
FINAL_AMOUNT = columns("final_amount")
ADDRESS = columns("address")
TRANSFER = (
    Member("to_participant", "to_participant", PARTICIPANT),
    Member("from_participant", "from_participant", PARTICIPANT),
)
MOVED = (
    *columns("id"),
    Member("from", "from_id"),
    Member("to", "to_id"),
    *columns("amount", "from_amount", "to_amount"),
)
JOINED = (*columns("id"), Member("to", "to_id"), *columns("amount"))
JOINS = (
    Member("entries", "entries", JOINED, is_list=True),
    Member("participants", "participants", PARTICIPANT, is_list=True),
)
TRANSFERS = (
    Member("entries", "entries", MOVED, is_list=True),
    Member("participants", "participants", PARTICIPANT, is_list=True),
)
LIST_SUMMARY = columns("first_entry_id", "last_entry_id", "count")
ENTRY = (
    *columns("id", "group_id", "kind"),
    Member("from", "from_id"),
    Member("to", "to_id"),
    *columns("amount", "from_amount", "to_amount", "created_at"),
    *columns("metadata", "reverses", "reversed_by", "reference", "settled_at"),
)
STATEMENT_LINE = columns(
    *["id", "kind", "created_at", "counterparty_id", "counterparty_username", "change", "balance", "metadata"]
)
STATEMENT = (
    *columns("username", "id", "group_id", "opening_balance"),
    Member("lines", "lines", STATEMENT_LINE, is_list=True),
    *columns("closing_balance"),
)
CHECKPOINT = (
    *columns("group_id", "number", "chain_id", "vault", "previous"),
    *columns("deposits", "credited", "settled", "leaf_count", "total", "root", "header", "seal", "created_at"),
    Member("state", "state", optional=True),
)
LEAF = columns("index", "participant_id", "exit_entry", "owner", "amount")
NODE = columns("sum", "hash")
PROOF = (
    Member("checkpoint", "checkpoint", CHECKPOINT),
    Member("leaf", "leaf", LEAF),
    Member("siblings", "siblings", NODE, is_list=True),
)

# The kinds of values: see api/http/values.py.
Kind = Literal[
    "id",
    "text",
    "amount",
    "after",
    "limit",
    "idempotency_key",
    "time",
    "boolean",
    "order",
    "object",
    "json",
    "lines",
    "joins",
]

# What an API key must be for, from the least to the most; an open route needs none.
Scope = Literal["open", "read", "transact", "admin"]
SCOPES: tuple[Scope, ...] = ("open", "read", "transact", "admin")

MIB = 1 << 20  # bytes

# The media types of answers that are whole lists.
CSV = "text/csv"
NDJSON = "application/x-ndjson"


@dataclass(frozen=True)
class Argument:
    """Where the value of one parameter of a function comes from.

    Of two with one name, the one takes the value that can.
    """

    parameter: str
    source: Literal["path", "query", "body", "header"]
    kind: Kind
    name: str
    optional: bool = False


def path(parameter: str, name: str | None = None) -> Argument:
    return Argument(parameter, "path", "id", name or parameter)


def text(parameter: str) -> Argument:
    return Argument(parameter, "body", "text", parameter)


def amount(parameter: str) -> Argument:
    return Argument(parameter, "body", "amount", parameter)


def participant(parameter: str, name: str) -> Argument:
    return Argument(parameter, "body", "id", name)


@dataclass(frozen=True)
class Route:
    """One function call over HTTP.

    `scope` is the API key's. `many` means that the answer is a page of rows; `feed` that it always has its last row's
    cursor, and `end_of` that it is the empty page at the end of the feed at that path: the function returns its cursor.
    `formats` are the media types beside JSON that the answer may have, as a whole list. `location` is the path of the
    new row, `key` the column that it names and that the next page begins after, `entry` the column with the entry that
    was written. `cursor` is the column that the next page begins after where the answer is one row with a page of a
    list in it, null on the last page. `batch_function` makes several such calls, with an array for each parameter that
    is not of the query. `wrapper` names a member that may hold the body's members instead; `echoes` a path parameter
    that the body may repeat; `frozen` members that the body may not name, each with the reason. `minimal_function` does
    the same and returns a summary, for a client that prefers so. `body_limit` is in bytes.
    """

    scope: Scope
    methods: tuple[str, ...]
    path: str
    function: str
    arguments: tuple[Argument, ...]
    answer: Shape | None
    status: int = 200
    many: bool = False
    feed: bool = False
    end_of: str | None = None
    formats: tuple[str, ...] = ()
    location: str | None = None
    key: str = "id"
    cursor: str | None = None
    entry: str | None = None
    batch_function: str | None = None
    wrapper: str | None = None
    echoes: str | None = None
    frozen: tuple[tuple[str, str], ...] = ()
    minimal_function: str | None = None
    body_limit: int = MIB

    @cached_property
    def reads(self) -> bool:
        """Whether the call changes nothing, so that it may be repeated at will."""
        return "GET" in self.methods

    @cached_property
    def takes_idempotency_key(self) -> bool:
        """Whether a request may have an idempotency key, so that it is done once."""
        return IDEMPOTENCY_KEY in self.arguments

    @cached_property
    def waits(self) -> bool:
        """Whether a client may wait for the rows of the answer."""
        return self.feed and self.end_of is None

    @cached_property
    def has_pages(self) -> bool:
        """Whether the answer is a page, which names the next one."""
        return self.many or self.cursor is not None

    @cached_property
    def rows(self) -> Shape:
        """The members of a row of the list that the answer has pages of."""
        return next((member.members for member in self.answer or () if member.is_list), self.answer or ())

    @cached_property
    def has_amounts(self) -> bool:
        """Whether the answer holds amounts, which a client may prefer as strings."""
        return has_amounts(self.answer or ())

    @cached_property
    def minimal(self) -> "Route | None":
        """The same route for a client that prefers a minimal answer, if it may have one."""
        if self.minimal_function is None:
            return None
        return replace(self, function=self.minimal_function, answer=LIST_SUMMARY, minimal_function=None)

    @cached_property
    def parts(self) -> tuple[Argument, ...]:
        return tuple(argument for argument in self.arguments if argument.source == "path")

    @cached_property
    def body(self) -> tuple[Argument, ...]:
        return tuple(argument for argument in self.arguments if argument.source == "body")

    @cached_property
    def lines(self) -> str | None:
        """The member of the body that holds a list of lines."""
        return next((argument.name for argument in self.body if argument.kind in ("lines", "joins")), None)

    @cached_property
    def needs_body(self) -> bool:
        """Whether a request must have a body."""
        return not all(argument.optional for argument in self.body)

    @cached_property
    def query(self) -> tuple[Argument, ...]:
        return tuple(argument for argument in self.arguments if argument.source == "query")

    @cached_property
    def batch_arguments(self) -> tuple[Argument, ...]:
        """The arguments of a call for several requests. A request with a query gets a call of its own."""
        return tuple(argument for argument in self.arguments if argument.source != "query")


def has_amounts(shape: Shape) -> bool:
    return any(member.name in AMOUNTS or has_amounts(member.members) for member in shape)


IDEMPOTENCY_KEY = Argument("idempotency_key", "header", "idempotency_key", "Idempotency-Key")
METADATA = Argument("metadata", "body", "object", "metadata", optional=True)
ITS_ADDRESS = Argument("address", "body", "text", "address", optional=True)
AFTER = Argument("after", "query", "after", "after")
LIMIT = Argument("max_rows", "query", "limit", "limit")
PAGE = (AFTER, LIMIT)
NAME = Argument("name", "query", "text", "name")
USERNAME = Argument("username", "query", "text", "username")
AT = (Argument("at_time", "query", "time", "at"), Argument("at_entry", "query", "id", "at"))
KIND = Argument("kind", "query", "text", "kind")
SETTLED = Argument("settled", "query", "boolean", "settled")
HISTORY = (
    Argument("metadata", "query", "json", "metadata"),
    Argument("since", "query", "time", "since"),
    Argument("until", "query", "time", "until"),
    AFTER,
    Argument("before", "query", "id", "before"),
    Argument("newest_first", "query", "order", "order"),
    LIMIT,
)
PERIOD = (Argument("since", "query", "time", "from"), Argument("until", "query", "time", "to"))
CURSOR = Argument("after", "query", "text", "after")
BY_MOVEMENT = (("amount", "is changed by joining, depositing, transferring and exiting only"),)

GROUPS = "/api/groups"
ONE_GROUP = "/api/groups/<id>"
PARTICIPANTS = "/api/groups/<group_id>/participants"
ONE_PARTICIPANT = "/api/groups/<group_id>/participants/<id>"
ONE_ADDRESS = f"{ONE_PARTICIPANT}/address"
FEED = "/api/entries"
ONE_ENTRY = "/api/groups/<group_id>/entries/<id>"
CHECKPOINTS = "/api/groups/<group_id>/checkpoints"
ONE_CHECKPOINT = "/api/groups/<group_id>/checkpoints/<number>"

IN_GROUP = (path("group_id", "id"),)
OF_GROUP = (path("group_id"),)
OF_PARTICIPANT = (path("group_id"), path("participant_id", "id"))
OF_ENTRY = (path("group_id"), path("entry_id", "id"))
OF_CHECKPOINT = (path("group_id"), path("number"))

# Paths that call no function.
ROOT = "/"
FILES = "/explorer"
API = "/api"
DESCRIPTION = "/api/openapi.json"
DOCS = "/api/docs"
LIVE = "/api/health/live"
METRICS = "/metrics"

# fmt: off
ROUTES: tuple[Route, ...] = (
    Route("open", ("GET",), "/api/health", "health", (), HEALTH),

    Route("read", ("GET",), GROUPS, "list_groups", (*PAGE, NAME), GROUP, many=True),
    Route("admin", ("POST",), GROUPS, "create_group", (text("name"), IDEMPOTENCY_KEY), GROUP, 201, location=ONE_GROUP),
    Route("read", ("GET",), ONE_GROUP, "get_group", IN_GROUP, GROUP),
    Route("admin", ("PUT", "PATCH"), ONE_GROUP, "rename_group", (*IN_GROUP, text("name"), IDEMPOTENCY_KEY),
          GROUP, wrapper="group"),
    Route("admin", ("DELETE",), ONE_GROUP, "remove_group", (*IN_GROUP, IDEMPOTENCY_KEY), None, 204),
    Route("read", ("GET",), "/api/groups/<id>/total", "group_total", (*IN_GROUP, *AT), TOTAL),

    Route("read", ("GET",), PARTICIPANTS, "list_participants", (*OF_GROUP, *PAGE, USERNAME), PARTICIPANT, many=True,
          formats=(CSV, NDJSON)),
    Route("transact", ("POST",), PARTICIPANTS, "join_group",
          (*OF_GROUP, text("username"), amount("amount"), IDEMPOTENCY_KEY, METADATA, ITS_ADDRESS), PARTICIPANT, 201,
          location=ONE_PARTICIPANT, entry="entry_id", echoes="group_id"),
    Route("transact", ("POST",), "/api/groups/<id>/joins", "join_all",
          (*IN_GROUP, Argument("participants", "body", "joins", "participants"), IDEMPOTENCY_KEY),
          JOINS, 201, minimal_function="join_all_minimal", body_limit=16 * MIB),
    Route("read", ("GET",), ONE_PARTICIPANT, "get_participant", (*OF_PARTICIPANT, *AT), PARTICIPANT,
          batch_function="get_participants"),
    Route("transact", ("PUT", "PATCH"), ONE_PARTICIPANT, "rename_participant",
          (*OF_PARTICIPANT, text("username"), IDEMPOTENCY_KEY), PARTICIPANT, wrapper="update_params",
          echoes="group_id", frozen=BY_MOVEMENT),
    Route("transact", ("DELETE",), ONE_PARTICIPANT, "exit_group",
          (*OF_PARTICIPANT, IDEMPOTENCY_KEY, METADATA, ITS_ADDRESS), FINAL_AMOUNT, entry="entry_id"),
    Route("transact", ("POST",), f"{ONE_PARTICIPANT}/deposits", "deposit",
          (*OF_PARTICIPANT, amount("amount"), IDEMPOTENCY_KEY, METADATA), PARTICIPANT, 201, entry="entry_id"),
    Route("read", ("GET",), ONE_ADDRESS, "get_address", OF_PARTICIPANT, ADDRESS),
    Route("transact", ("PUT",), ONE_ADDRESS, "bind_address", (*OF_PARTICIPANT, text("address"), IDEMPOTENCY_KEY),
          ADDRESS),

    Route("transact", ("POST",), "/api/groups/<group_id>/transfer", "transfer",
          (*OF_GROUP, participant("from_id", "from"), participant("to_id", "to"), amount("amount"), IDEMPOTENCY_KEY,
           METADATA), TRANSFER, entry="entry_id", batch_function="transfer_batch"),
    Route("transact", ("POST",), "/api/groups/<id>/transfers", "transfer_all",
          (*IN_GROUP, Argument("transfers", "body", "lines", "transfers"), IDEMPOTENCY_KEY),
          TRANSFERS, minimal_function="transfer_all_minimal", body_limit=16 * MIB),

    Route("read", ("GET",), "/api/groups/<id>/entries", "list_entries", (*IN_GROUP, KIND, SETTLED, *HISTORY), ENTRY,
          many=True, formats=(CSV, NDJSON)),
    Route("read", ("GET",), "/api/groups/<group_id>/participants/<id>/entries", "list_participant_entries",
          (*OF_PARTICIPANT, KIND, *HISTORY), ENTRY, many=True, formats=(CSV, NDJSON)),
    Route("read", ("GET",), f"{ONE_PARTICIPANT}/statement", "get_statement", (*OF_PARTICIPANT, *PERIOD, *PAGE),
          STATEMENT, cursor="next_after", formats=(CSV,)),
    Route("read", ("GET",), ONE_ENTRY, "get_entry", OF_ENTRY, ENTRY),
    Route("transact", ("POST",), f"{ONE_ENTRY}/reversal", "reverse_transfer", (*OF_ENTRY, IDEMPOTENCY_KEY, METADATA),
          ENTRY, 201, location=ONE_ENTRY, entry="id"),
    Route("transact", ("POST",), f"{ONE_ENTRY}/settlement", "settle_exit",
          (*OF_ENTRY, text("reference"), IDEMPOTENCY_KEY), ENTRY),

    Route("transact", ("POST",), CHECKPOINTS, "checkpoint", (*OF_GROUP, IDEMPOTENCY_KEY), CHECKPOINT, 201,
          location=ONE_CHECKPOINT, key="number"),
    Route("read", ("GET",), CHECKPOINTS, "list_checkpoints", (*OF_GROUP, *PAGE), CHECKPOINT, many=True, key="number"),
    Route("read", ("GET",), ONE_CHECKPOINT, "get_checkpoint", OF_CHECKPOINT, CHECKPOINT),
    Route("read", ("GET",), f"{ONE_CHECKPOINT}/leaves", "list_leaves", (*OF_CHECKPOINT, *PAGE), LEAF, many=True,
          key="participant_id"),
    Route("read", ("GET",), f"{ONE_CHECKPOINT}/proofs/<id>", "get_proof",
          (*OF_PARTICIPANT, path("number")), PROOF),

    Route("read", ("GET",), FEED, "read_feed", (CURSOR, LIMIT), ENTRY, many=True, feed=True),
    Route("read", ("GET",), f"{FEED}/end", "feed_end", (), ENTRY, many=True, feed=True, end_of=FEED),
)
# fmt: on
