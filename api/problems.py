"""The one error shape: problem details (RFC 9457), whatever refused the request."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

# code -> HTTP status, title
PROBLEMS: dict[str, tuple[int, str]] = {
    "invalid_json": (400, "Invalid JSON"),
    "bad_request": (400, "Bad request"),
    "unauthorized": (401, "Unauthorized"),
    "forbidden": (403, "Forbidden"),
    "foreign_origin": (403, "Foreign origin"),
    "insufficient_funds": (403, "Insufficient funds"),
    "not_found": (404, "Not found"),
    "method_not_allowed": (405, "Method not allowed"),
    "request_timeout": (408, "Request timed out"),
    "group_not_empty": (409, "Group not empty"),
    "already_reversed": (409, "Already reversed"),
    "already_settled": (409, "Already settled"),
    "address_bound": (409, "Address bound"),
    "group_too_large": (409, "Group too large"),
    "vault_linked": (409, "Vault linked"),
    "vault_mismatch": (409, "Vault mismatch"),
    "group_frozen": (409, "Group frozen"),
    "cursor_expired": (410, "Cursor expired"),
    "body_too_large": (413, "Body too large"),
    "unsupported_media_type": (415, "Unsupported media type"),
    "expectation_failed": (417, "Expectation failed"),
    "invalid_value": (422, "Invalid value"),
    "already_taken": (422, "Already taken"),
    "idempotency_key_reused": (422, "Idempotency key reused"),
    "header_too_large": (431, "Header too large"),
    "internal_error": (500, "Internal error"),
    "busy": (503, "Busy"),
    "unavailable": (503, "Unavailable"),
    "outcome_unknown": (504, "Outcome unknown"),
}

# SQLSTATE -> code; for a missing state, its class (the first two characters) counts. An error of any other class is a
# bug or a broken database, and no later attempt succeeds: it is an internal_error, and logged.
SQLSTATES: dict[str, str] = {
    "LG001": "invalid_value",
    "LG002": "not_found",
    "LG003": "insufficient_funds",
    "LG004": "group_not_empty",
    "LG005": "already_taken",
    "LG006": "idempotency_key_reused",
    "LG007": "already_reversed",
    "LG008": "already_settled",
    "LG009": "cursor_expired",
    "LG010": "address_bound",
    "LG011": "group_too_large",
    "LG012": "vault_linked",
    "LG013": "vault_mismatch",
    "LG014": "group_frozen",
    "40001": "busy",  # serialization_failure
    "40P01": "busy",  # deadlock_detected
    "55P03": "busy",  # lock_not_available
    "57014": "busy",  # query_canceled, by statement_timeout
    "25006": "unavailable",  # read_only_sql_transaction: a standby
    "53": "unavailable",  # insufficient resources: connections, disk, memory
    "57": "unavailable",  # operator intervention: shutting down, starting up
    "58": "unavailable",  # system errors: input and output, a full disk among them
    "72": "busy",  # snapshot_too_old
}

# Seconds after which a client may repeat a request that was not done.
RETRY_AFTER = {"busy": "1", "unavailable": "5"}


@dataclass(eq=False)
class Problem(Exception):
    """A request that was refused or that failed.

    `errors` maps each field to blame to its messages; `sqlstate` is set when the database refused.
    """

    code: str
    detail: str
    errors: Mapping[str, list[str]] = field(default_factory=dict)
    sqlstate: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    request_id: str | None = None

    @property
    def status(self) -> int:
        return PROBLEMS[self.code][0]

    @property
    def all_headers(self) -> dict[str, str]:
        retry = {"Retry-After": RETRY_AFTER[self.code]} if self.code in RETRY_AFTER else {}
        return retry | dict(self.headers)

    def body(self) -> bytes:
        status, title = PROBLEMS[self.code]
        members: dict[str, object] = {
            "type": f"/problems/{self.code.replace('_', '-')}",
            "title": title,
            "status": status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.sqlstate:
            members["sqlstate"] = self.sqlstate
        if self.request_id:
            members["request_id"] = self.request_id
        members["errors"] = dict(self.errors) or {"detail": title}
        return json.dumps(members, separators=(",", ":")).encode()


def code_of(state: str) -> str | None:
    """Return the code of a SQLSTATE, or of its class; None for an error that a client must not see."""
    return SQLSTATES.get(state) or SQLSTATES.get(state[:2])
