"""The exit status of a command that a service refused, by the code of the refusal."""

import httpx

from ledger_client.errors import ConnectionFailed, LedgerError, Problem, UnexpectedAnswer

FAILED = 1
UNUSABLE = 2  # argparse's status, too
INVALID, NOT_FOUND, CONFLICT, INSUFFICIENT, UNAUTHORIZED, AWAY, UNKNOWN = 3, 4, 5, 6, 7, 8, 9

# A code that is not here is FAILED.
STATUSES: dict[str, int] = {
    "invalid_value": INVALID,
    "not_found": NOT_FOUND,
    **dict.fromkeys(
        (
            *("already_taken", "idempotency_key_reused", "group_not_empty", "already_reversed", "already_settled"),
            *("address_bound", "group_too_large", "vault_linked", "vault_mismatch", "group_frozen", "cursor_expired"),
        ),
        CONFLICT,
    ),
    "insufficient_funds": INSUFFICIENT,
    **dict.fromkeys(("unauthorized", "forbidden", "foreign_origin"), UNAUTHORIZED),
    **dict.fromkeys(("busy", "unavailable"), AWAY),
    "outcome_unknown": UNKNOWN,
}


class Unusable(Exception):
    """Why no request can be sent."""


def status_of(error: LedgerError) -> int:
    """Return the exit status for an error of the client."""
    if error.idempotency_key and error.may_be_done:
        return UNKNOWN
    if isinstance(error, ConnectionFailed):
        return AWAY
    if isinstance(error, UnexpectedAnswer):
        return AWAY if error.status in (429, 502, 503, 504) else FAILED
    return STATUSES.get(error.code, FAILED) if isinstance(error, Problem) else FAILED


def reason(error: LedgerError, url: str) -> str:
    """Return in one line why a request was refused, or failed."""
    if isinstance(error, Problem):
        detail = f"{error.code}: {error.detail}"
        fields = [f"{name} {message}" for name, messages in error.fields.items() for message in messages]
        return "; ".join([detail, *(field for field in fields if field not in detail)])
    host = httpx.URL(url).netloc.decode()  # without a password
    if isinstance(error, ConnectionFailed):
        return f"no answer from {host}: {error}"
    return f"{host} does not answer as a ledger does: {error}"
