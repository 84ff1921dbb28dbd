"""What can go wrong: a class for each code of a problem, and one each for a lost connection and a strange answer.

LedgerError
├── ConnectionFailed    no answer arrived, and the attempts are used up
├── UnexpectedAnswer    an answer that is not the ledger's: a proxy's, for example
└── Problem             the service refused; a class for each code, Problem itself for a code of a later release
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class LedgerError(Exception):
    """Any error of this client.

    `idempotency_key` is the key of the write that failed, None for a read. A write whose outcome is unknown can be
    repeated with it, also by another process: it is done once. `may_be_done` means that an attempt at the write may
    have succeeded.
    """

    idempotency_key: str | None = None
    may_be_done: bool = False


class ConnectionFailed(LedgerError):
    """No answer arrived, and the attempts are used up. A write may have been done; `__cause__` has the last error."""

    def __init__(self, detail: str, idempotency_key: str | None) -> None:
        super().__init__(detail)
        self.idempotency_key = idempotency_key


class UnexpectedAnswer(LedgerError):
    """An answer that is not the ledger's: a proxy's, for example. A write may have been done."""

    def __init__(self, status: int, text: str, idempotency_key: str | None) -> None:
        super().__init__(f"{status}: {text[:200]}")
        self.status = status
        self.text = text
        self.idempotency_key = idempotency_key


class Problem(LedgerError):
    """A request that the service refused (RFC 9457).

    `fields` maps each invalid field to its messages; `sqlstate` is set when the database refused; `request_id` finds
    the request in the service's log.
    """

    CODE: ClassVar[str] = ""
    BY_CODE: ClassVar[dict[str, type[Problem]]] = {}

    def __init_subclass__(cls) -> None:
        Problem.BY_CODE[cls.CODE] = cls

    def __init__(self, body: Mapping[str, Any], request_id: str | None, idempotency_key: str | None) -> None:
        self.code: str = body["code"]
        self.status: int = body["status"]
        self.title: str = body["title"]
        self.detail: str = body["detail"]
        given = body.get("errors", {})
        self.fields: dict[str, list[str]] = {name: each for name, each in given.items() if isinstance(each, list)}
        self.sqlstate: str | None = body.get("sqlstate")
        self.request_id = request_id
        self.idempotency_key = idempotency_key
        super().__init__(self.detail)

    def __str__(self) -> str:
        fields = "".join(f"; {name} {message}" for name, each in self.fields.items() for message in each)
        return f"{self.code}: {self.detail}{fields}"


class InvalidJson(Problem):
    CODE = "invalid_json"


class BadRequest(Problem):
    CODE = "bad_request"


class Unauthorized(Problem):
    """The request has no valid API key."""

    CODE = "unauthorized"


class Forbidden(Problem):
    """The API key's scope is not enough, or it is for another group."""

    CODE = "forbidden"


class ForeignOrigin(Problem):
    CODE = "foreign_origin"


class InsufficientFunds(Problem):
    """The sender holds less than the amount."""

    CODE = "insufficient_funds"


class NotFound(Problem):
    """No such group, participant, entry or checkpoint; or one that exited or was removed."""

    CODE = "not_found"


class MethodNotAllowed(Problem):
    CODE = "method_not_allowed"


class RequestTimeout(Problem):
    """The request did not arrive whole in time."""

    CODE = "request_timeout"


class GroupNotEmpty(Problem):
    """The group to remove has participants."""

    CODE = "group_not_empty"


class AlreadyReversed(Problem):
    """The transfer was reversed before."""

    CODE = "already_reversed"


class AlreadySettled(Problem):
    """The exit was settled with another reference."""

    CODE = "already_settled"


class AddressBound(Problem):
    """The participant has another address, or another participant of the group has this one."""

    CODE = "address_bound"


class GroupTooLarge(Problem):
    """Joins and deposits of the group come to 2^256 or more, which no checkpoint can hold."""

    CODE = "group_too_large"


class VaultLinked(Problem):
    """The group is linked to a vault, and the chain decides this."""

    CODE = "vault_linked"


class VaultMismatch(Problem):
    CODE = "vault_mismatch"


class GroupFrozen(Problem):
    """An emergency was declared at the group's vault: nothing moves any more."""

    CODE = "group_frozen"


class CursorExpired(Problem):
    """The ledger was reset or restored: read the feed from its beginning."""

    CODE = "cursor_expired"


class BodyTooLarge(Problem):
    CODE = "body_too_large"


class UnsupportedMediaType(Problem):
    CODE = "unsupported_media_type"


class ExpectationFailed(Problem):
    CODE = "expectation_failed"


class InvalidValue(Problem):
    """A value is missing, of the wrong type or out of range; `fields` has all invalid fields at once."""

    CODE = "invalid_value"


class AlreadyTaken(Problem):
    """The name or username is in use."""

    CODE = "already_taken"


class IdempotencyKeyReused(Problem):
    """The idempotency key was used for another request of the group."""

    CODE = "idempotency_key_reused"


class HeaderTooLarge(Problem):
    CODE = "header_too_large"


class InternalError(Problem):
    """Anything else; the service's log has the details under the `request_id`."""

    CODE = "internal_error"


class Busy(Problem):
    """Nothing was done: a time-out, a full pool, a deadlock."""

    CODE = "busy"


class Unavailable(Problem):
    """Nothing was done: the database is away or its disk is full."""

    CODE = "unavailable"


class OutcomeUnknown(Problem):
    """The write may have been done: repeat it with its idempotency key."""

    CODE = "outcome_unknown"
