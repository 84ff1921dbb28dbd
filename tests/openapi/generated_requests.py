"""Schemathesis' settings for the service: it loads this module into its own process.

It checks once more, closer than Schemathesis can, that nothing which the description allows is refused as malformed;
and it counts the requests, by their answers' status, into the file that REQUESTS_SENT names.
"""

import json
import os
from collections import Counter
from pathlib import Path

import schemathesis
from schemathesis import Case, CheckContext, Response

MALFORMED = {400, 405, 406, 413, 415, 417, 431}

# Refusals that no schema can express: they depend on other values, on stored rows, or on a size in bytes.
RULES = {
    "goes with the kind exit",
    "must be an entry of the group",
    "must be an exit",
    "must be another participant",
    "must be below 2^256",
    "must be below 2^63",
    "must be a positive integer below 2^63",
    "must be a whole number below 2^256",
    "must equal the one in the path",
    "must have at most 255 characters",  # which count once they are composed
    "must have at most 4096 bytes",
    "must not be before the beginning",
    "must not be in the future",
    "must not be the zero address",
    "must have the checksum of EIP-55 in mixed case",
    "must not be blank",  # of characters beyond 16 bits
    "must not contain invisible characters",  # the same, and the place of joiners
    "must not contain a NUL or half of a surrogate pair",
    "must not have a number of more than 4096 digits",
    "would take the recipient to 2^256 or more",
}

SENT: Counter[int] = Counter()


def near(value: object) -> object:
    """Map a valid id to one that is likely to exist; keep an invalid or nearly too large one."""
    return value % 9 + 1 if type(value) is int and 0 < value < 2**62 else value


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    return path_parameters and {name: near(value) for name, value in path_parameters.items()}


def spelled_as_integers(value: object) -> object:
    """The same JSON without 5.0, which no schema can distinguish from 5."""
    if isinstance(value, dict):
        return {name: spelled_as_integers(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [spelled_as_integers(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@schemathesis.hook
def map_body(context, body):
    body = spelled_as_integers(body)
    if isinstance(body, dict):
        return {name: near(value) if name in ("from", "to", "group_id") else value for name, value in body.items()}
    return body


@schemathesis.hook
def map_query(context, query):
    """Keep requests from waiting for entries that never come."""
    if query and query.get("wait") in range(2, 31):
        return {**query, "wait": 1}
    return query


@schemathesis.hook
def after_call(context, case: Case, response: Response) -> None:
    SENT[response.status_code] += 1
    Path(os.environ["REQUESTS_SENT"]).write_text(json.dumps(SENT))


@schemathesis.check
def refused_by_a_rule_only(context: CheckContext, response: Response, case: Case) -> None:
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    assert response.status_code not in MALFORMED, response.text
    if response.status_code == 422:
        problem = response.json()
        if problem["code"] != "invalid_value" or ("sqlstate" in problem and "detail" in problem["errors"]):
            return  # stored values forbid it, such as the kind of the entry in the path
        messages = {message for messages in problem["errors"].values() for message in messages}
        assert messages <= RULES, problem["errors"]
