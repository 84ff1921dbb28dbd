"""The table of routes: the whole HTTP surface, each line the function call that it makes."""

from dataclasses import dataclass
from typing import Literal

# The members of an answer in their order; one with members of its own is a pair.
Shape = tuple["str | tuple[str, Shape]", ...]

HEALTH: Shape = ("status",)
GROUP: Shape = ("name", "id")
PARTICIPANT: Shape = ("username", "id", "group_id", "amount")
TRANSFER: Shape = (("to_participant", PARTICIPANT), ("from_participant", PARTICIPANT))

# The members whose values are amounts.
AMOUNTS = frozenset({"amount", "final_amount", "group_total"})


@dataclass(frozen=True)
class Argument:
    """Where the value of one parameter of a function comes from."""

    parameter: str
    source: Literal["path", "query", "body", "header"]
    kind: Literal["id", "text", "amount", "after", "limit", "key"]
    name: str


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

    `wrapper` names a member that may hold the body's members instead; `echoes` a path parameter that the body may
    repeat; `frozen` members that the body may not name, each with the reason.
    """

    methods: tuple[str, ...]
    path: str
    function: str
    arguments: tuple[Argument, ...]
    answer: Shape | None
    status: int = 200
    many: bool = False
    location: bool = False
    entry: bool = False
    wrapper: str | None = None
    echoes: str | None = None
    frozen: tuple[tuple[str, str], ...] = ()

    @property
    def reads(self) -> bool:
        """Whether the call changes nothing, so that it may be repeated at will."""
        return "GET" in self.methods

    @property
    def keyed(self) -> bool:
        """Whether a repeated request can be told by its idempotency key."""
        return KEY in self.arguments

    @property
    def body(self) -> tuple[Argument, ...]:
        return tuple(argument for argument in self.arguments if argument.source == "body")


KEY = Argument("idempotency_key", "header", "key", "Idempotency-Key")
PAGE = (Argument("after", "query", "after", "after"), Argument("max_rows", "query", "limit", "limit"))
BY_MOVEMENT = (("amount", "is changed by joining, transferring and exiting only"),)

GROUPS = "/api/groups"
ONE_GROUP = "/api/groups/<id>"
PARTICIPANTS = "/api/groups/<group_id>/participants"
ONE_PARTICIPANT = "/api/groups/<group_id>/participants/<id>"

IN_GROUP = (path("group_id", "id"),)
OF_GROUP = (path("group_id"),)
OF_PARTICIPANT = (path("group_id"), path("participant_id", "id"))

# fmt: off
ROUTES: tuple[Route, ...] = (
    Route(("GET",), "/api/health", "health", (), HEALTH),

    Route(("GET",), GROUPS, "list_groups", PAGE, GROUP, many=True),
    Route(("POST",), GROUPS, "create_group", (text("name"), KEY), GROUP, 201, location=True),
    Route(("GET",), ONE_GROUP, "get_group", IN_GROUP, GROUP),
    Route(("PUT", "PATCH"), ONE_GROUP, "rename_group", (*IN_GROUP, text("name"), KEY), GROUP, wrapper="group"),
    Route(("DELETE",), ONE_GROUP, "remove_group", (*IN_GROUP, KEY), None, 204),
    Route(("GET",), "/api/groups/<id>/total", "group_total", IN_GROUP, ("group_total",)),

    Route(("GET",), PARTICIPANTS, "list_participants", (*OF_GROUP, *PAGE), PARTICIPANT, many=True),
    Route(("POST",), PARTICIPANTS, "join_group", (*OF_GROUP, text("username"), amount("amount"), KEY),
          PARTICIPANT, 201, location=True, entry=True, echoes="group_id"),
    Route(("GET",), ONE_PARTICIPANT, "get_participant", OF_PARTICIPANT, PARTICIPANT),
    Route(("PUT", "PATCH"), ONE_PARTICIPANT, "rename_participant", (*OF_PARTICIPANT, text("username"), KEY),
          PARTICIPANT, wrapper="update_params", echoes="group_id", frozen=BY_MOVEMENT),
    Route(("DELETE",), ONE_PARTICIPANT, "exit_group", (*OF_PARTICIPANT, KEY), ("final_amount",), entry=True),

    Route(("POST",), "/api/groups/<group_id>/transfer", "transfer",
          (*OF_GROUP, participant("from_id", "from"), participant("to_id", "to"), amount("amount"), KEY),
          TRANSFER, entry=True),
)
# fmt: on
