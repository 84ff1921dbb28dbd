"""A function for each operation of the API, by its name in the OpenAPI document: it returns the call, sends nothing."""

from __future__ import annotations

import json
import operator
import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qsl, urlsplit

from ledger_client.answers import (
    Address,
    Checkpoint,
    Entry,
    Exit,
    FeedPage,
    Group,
    Joins,
    Kind,
    Leaf,
    ListSummary,
    Page,
    Participant,
    Proof,
    Receipt,
    Statement,
    Transfer,
    Transfers,
)
from ledger_client.exchange import Answer, Call

GROUPS = "/api/groups"

T = TypeVar("T")
Metadata = Mapping[str, Any]
Moment = datetime | int  # a time, or the id of an entry
Order = Literal["asc", "desc"]
FileFormat = Literal["csv", "ndjson"]

MEDIA_TYPES: dict[FileFormat, str] = {"csv": "text/csv", "ndjson": "application/x-ndjson"}
LARGEST_PAGE = 1_000  # rows


@dataclass(frozen=True)
class TransferLine:
    """One transfer of a list."""

    from_id: int
    to_id: int
    amount: int
    metadata: Metadata | None = None


@dataclass(frozen=True)
class JoinLine:
    """One join of a list."""

    username: str
    amount: int
    address: str | None = None
    metadata: Metadata | None = None


def new_idempotency_key() -> str:
    """Return a UUID of version 7 (RFC 9562), which rises with time: such keys are the quickest to store."""
    milliseconds = time.time_ns() // 1_000_000
    number = milliseconds << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=number))


# Groups


def list_groups(
    *, name: str | None = None, after: int | None = None, page_size: int | None = None
) -> Call[Page[Group]]:
    """Iterate over the groups by ascending id: all, or the one with a name."""
    return page(GROUPS, Group.read, {"name": name, **paging(after, page_size)})


def create_group(name: str, *, idempotency_key: str | None = None) -> Call[Group]:
    """Open a group under a name. Raises AlreadyTaken. Needs an API key of scope `admin`."""
    return write("POST", GROUPS, Group.read, {"name": name}, idempotency_key)


def get_group(group_id: int) -> Call[Group]:
    """Return a group."""
    return get(one_group(group_id), Group.read)


def rename_group(group_id: int, name: str, *, idempotency_key: str | None = None) -> Call[Group]:
    """Rename a group. Raises AlreadyTaken. Needs an API key of scope `admin`."""
    return write("PUT", one_group(group_id), Group.read, {"name": name}, idempotency_key)


def remove_group(group_id: int, *, idempotency_key: str | None = None) -> Call[Receipt]:
    """Remove a group without participants. Raises GroupNotEmpty. Needs an API key of scope `admin`."""
    key = idempotency_key or new_idempotency_key()
    return Call("DELETE", one_group(group_id), lambda answer: answer.receipt, idempotency_key=key)


def group_total(group_id: int, *, at: Moment | None = None) -> Call[int]:
    """Return the sum of a group's balances: now, at a time, or after the entry with an id."""
    return get(f"{one_group(group_id)}/total", lambda data: int(data["group_total"]), {"at": time_text(at)})


# Participants


def list_participants(
    group_id: int, *, username: str | None = None, after: int | None = None, page_size: int | None = None
) -> Call[Page[Participant]]:
    """Iterate over the participants who are present by ascending id: all, or the one with a username."""
    return page(
        f"{one_group(group_id)}/participants", Participant.read, {"username": username, **paging(after, page_size)}
    )


def join_group(
    group_id: int,
    username: str,
    amount: int,
    *,
    address: str | None = None,
    metadata: Metadata | None = None,
    idempotency_key: str | None = None,
) -> Call[Participant]:
    """Join a group with a deposit, which may be 0. Raises AlreadyTaken, AddressBound, VaultLinked."""
    body = {"username": username, "amount": amount_text(amount), **given(address=address, metadata=metadata)}
    return write("POST", f"{one_group(group_id)}/participants", Participant.read, body, idempotency_key)


def join_all(group_id: int, participants: Iterable[JoinLine], *, idempotency_key: str | None = None) -> Call[Joins]:
    """Make a list of 1 to 10,000 joins, all or none."""
    body = {"participants": [join_line(each) for each in participants]}
    return write("POST", f"{one_group(group_id)}/joins", Joins.read, body, idempotency_key)


def join_all_minimal(
    group_id: int, participants: Iterable[JoinLine], *, idempotency_key: str | None = None
) -> Call[ListSummary]:
    """Make a list of joins as `join_all` does, and ask for no line of it."""
    return minimal(join_all(group_id, participants, idempotency_key=idempotency_key))


def get_participant(group_id: int, participant_id: int, *, at: Moment | None = None) -> Call[Participant]:
    """Return a participant with their balance: now, at a time, or after the entry with an id."""
    return get(one_participant(group_id, participant_id), Participant.read, {"at": time_text(at)})


def rename_participant(
    group_id: int, participant_id: int, username: str, *, idempotency_key: str | None = None
) -> Call[Participant]:
    """Change a participant's username. Raises AlreadyTaken."""
    body = {"username": username}
    return write("PUT", one_participant(group_id, participant_id), Participant.read, body, idempotency_key)


def exit_group(
    group_id: int,
    participant_id: int,
    *,
    address: str | None = None,
    metadata: Metadata | None = None,
    idempotency_key: str | None = None,
) -> Call[Exit]:
    """Leave a group with the final amount."""
    body = given(address=address, metadata=metadata) or None
    return write("DELETE", one_participant(group_id, participant_id), Exit.read, body, idempotency_key)


def deposit(
    group_id: int,
    participant_id: int,
    amount: int,
    *,
    metadata: Metadata | None = None,
    idempotency_key: str | None = None,
) -> Call[Participant]:
    """Add to a participant's balance from outside the group. Raises VaultLinked."""
    body = {"amount": amount_text(amount), **given(metadata=metadata)}
    return write(
        "POST", f"{one_participant(group_id, participant_id)}/deposits", Participant.read, body, idempotency_key
    )


def get_address(group_id: int, participant_id: int) -> Call[Address]:
    """Return a participant's address on the main network."""
    return get(f"{one_participant(group_id, participant_id)}/address", Address.read)


def bind_address(
    group_id: int, participant_id: int, address: str, *, idempotency_key: str | None = None
) -> Call[Address]:
    """Bind a participant's address on the main network, for good. Raises AddressBound."""
    body = {"address": address}
    return write("PUT", f"{one_participant(group_id, participant_id)}/address", Address.read, body, idempotency_key)


# Transfers


def transfer(
    group_id: int,
    from_id: int,
    to_id: int,
    amount: int,
    *,
    metadata: Metadata | None = None,
    idempotency_key: str | None = None,
) -> Call[Transfer]:
    """Move an amount from one participant to another of the same group. Raises InsufficientFunds."""
    body = line(TransferLine(from_id, to_id, amount, metadata))
    return write("POST", f"{one_group(group_id)}/transfer", Transfer.read, body, idempotency_key)


def transfer_all(
    group_id: int, transfers: Iterable[TransferLine], *, idempotency_key: str | None = None
) -> Call[Transfers]:
    """Make a list of 1 to 10,000 transfers, all or none."""
    body = {"transfers": [line(each) for each in transfers]}
    return write("POST", f"{one_group(group_id)}/transfers", Transfers.read, body, idempotency_key)


def transfer_all_minimal(
    group_id: int, transfers: Iterable[TransferLine], *, idempotency_key: str | None = None
) -> Call[ListSummary]:
    """Make a list of transfers as `transfer_all` does, and ask for no line of it."""
    return minimal(transfer_all(group_id, transfers, idempotency_key=idempotency_key))


def reverse_transfer(
    group_id: int, entry_id: int, *, metadata: Metadata | None = None, idempotency_key: str | None = None
) -> Call[Entry]:
    """Reverse a transfer. Raises AlreadyReversed, InsufficientFunds."""
    body = given(metadata=metadata) or None
    return write("POST", f"{one_entry(group_id, entry_id)}/reversal", Entry.read, body, idempotency_key)


def settle_exit(group_id: int, entry_id: int, reference: str, *, idempotency_key: str | None = None) -> Call[Entry]:
    """Record the transaction on the main network that paid an exit out. Raises AlreadySettled, VaultLinked."""
    body = {"reference": reference}
    return write("POST", f"{one_entry(group_id, entry_id)}/settlement", Entry.read, body, idempotency_key)


# Entries


def list_entries(
    group_id: int,
    *,
    kind: Kind | None = None,
    settled: bool | None = None,
    metadata: Metadata | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    after: int | None = None,
    before: int | None = None,
    order: Order | None = None,
    page_size: int | None = None,
) -> Call[Page[Entry]]:
    """Iterate over a group's entries by time: the oldest first, or with `order="desc"` the newest."""
    query = history(kind, metadata, since, until, before, order) | {"settled": flag_text(settled)}
    return page(f"{one_group(group_id)}/entries", Entry.read, query | paging(after, page_size))


def list_participant_entries(
    group_id: int,
    participant_id: int,
    *,
    kind: Kind | None = None,
    metadata: Metadata | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    after: int | None = None,
    before: int | None = None,
    order: Order | None = None,
    page_size: int | None = None,
) -> Call[Page[Entry]]:
    """Iterate over a participant's entries by time, also of one who has exited."""
    query = history(kind, metadata, since, until, before, order) | paging(after, page_size)
    return page(f"{one_participant(group_id, participant_id)}/entries", Entry.read, query)


def get_statement(
    group_id: int,
    participant_id: int,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    after: int | None = None,
    page_size: int | None = None,
) -> Call[Statement]:
    """Return a page of a participant's statement, also of one who has exited. `until` does not belong to the period."""

    def read(answer: Answer) -> Statement:
        last = following(answer).get("after")
        return Statement.read(answer.data, None if last is None else int(last))

    query = {"from": time_text(since), "to": time_text(until), **paging(after, page_size)}
    return Call("GET", f"{one_participant(group_id, participant_id)}/statement", read, parameters(query))


def get_entry(group_id: int, entry_id: int) -> Call[Entry]:
    """Return an entry."""
    return get(one_entry(group_id, entry_id), Entry.read)


def read_feed(after: str | None = None, *, limit: int | None = None, wait: int = 0) -> Call[FeedPage]:
    """Return one page of the feed of all groups after a cursor, and the cursor after it.

    `wait` is for how many seconds, 30 at most, the service waits for something new.
    """

    def read(answer: Answer) -> FeedPage:
        entries = [Entry.read(each) for each in answer.data]
        return FeedPage(entries, following(answer).get("after", after))

    query = parameters({"after": after, "limit": optional_number(limit), "wait": str(wait) if wait else None})
    return Call("GET", "/api/entries", read, query, wait=wait)


def feed_end() -> Call[FeedPage]:
    """Return the empty page at the end of the feed: its cursor is the place of what cannot be read yet."""
    return Call("GET", "/api/entries/end", lambda answer: FeedPage([], following(answer).get("after")))


# Files: the bytes that the service writes


def download_participants(
    group_id: int, file_format: FileFormat = "csv", *, after: int | None = None, page_size: int | None = None
) -> Call[Page[bytes]]:
    """Iterate over the bytes of a file with the participants who are present, page by page."""
    return pieces(f"{one_group(group_id)}/participants", file_format, paging(after, page_size))


def download_entries(
    group_id: int,
    file_format: FileFormat = "csv",
    *,
    kind: Kind | None = None,
    settled: bool | None = None,
    metadata: Metadata | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    after: int | None = None,
    before: int | None = None,
    order: Order | None = None,
    page_size: int | None = None,
) -> Call[Page[bytes]]:
    """Iterate over the bytes of a file with a group's entries, page by page; the parameters are those of the list."""
    query = history(kind, metadata, since, until, before, order) | {"settled": flag_text(settled)}
    return pieces(f"{one_group(group_id)}/entries", file_format, query | paging(after, page_size))


def download_participant_entries(
    group_id: int,
    participant_id: int,
    file_format: FileFormat = "csv",
    *,
    kind: Kind | None = None,
    metadata: Metadata | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    after: int | None = None,
    before: int | None = None,
    order: Order | None = None,
    page_size: int | None = None,
) -> Call[Page[bytes]]:
    """Iterate over the bytes of a file with a participant's entries, page by page."""
    query = history(kind, metadata, since, until, before, order) | paging(after, page_size)
    return pieces(f"{one_participant(group_id, participant_id)}/entries", file_format, query)


def download_statement(
    group_id: int,
    participant_id: int,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    page_size: int | None = None,
) -> Call[Page[bytes]]:
    """Iterate over the bytes of a CSV file with a participant's statement, page by page."""
    query = {"from": time_text(since), "to": time_text(until), **paging(None, page_size)}
    return pieces(f"{one_participant(group_id, participant_id)}/statement", "csv", query)


# Checkpoints


def checkpoint(group_id: int, *, idempotency_key: str | None = None) -> Call[Checkpoint]:
    """Commit to what everybody in a group holds now. Raises GroupTooLarge, VaultLinked."""
    return write("POST", f"{one_group(group_id)}/checkpoints", Checkpoint.read, None, idempotency_key)


def list_checkpoints(
    group_id: int, *, after: int | None = None, page_size: int | None = None
) -> Call[Page[Checkpoint]]:
    """Iterate over a group's checkpoints, the first one first."""
    return page(f"{one_group(group_id)}/checkpoints", Checkpoint.read, paging(after, page_size))


def get_checkpoint(group_id: int, number: int) -> Call[Checkpoint]:
    """Return the checkpoint of a group with a number."""
    return get(one_checkpoint(group_id, number), Checkpoint.read)


def list_leaves(
    group_id: int, number: int, *, after: int | None = None, page_size: int | None = None
) -> Call[Page[Leaf]]:
    """Iterate over a checkpoint's leaves by participant; `after` is the id of one."""
    return page(f"{one_checkpoint(group_id, number)}/leaves", Leaf.read, paging(after, page_size))


def get_proof(group_id: int, number: int, participant_id: int) -> Call[Proof]:
    """Return the proof of a participant's leaf in a checkpoint."""
    return get(f"{one_checkpoint(group_id, number)}/proofs/{id_text(participant_id)}", Proof.read)


# The service


def health() -> Call[str]:
    """Return "ok" while the database answers. Raises Unavailable."""
    return get("/api/health", lambda data: str(data["status"]))


def live() -> Call[str]:
    """Return "ok" while a worker answers, whatever the database does."""
    return get("/api/health/live", lambda data: str(data["status"]))


def metrics() -> Call[str]:
    """Return the metrics as Prometheus reads them."""
    return Call("GET", "/metrics", lambda answer: answer.response.text)


# How calls are made


def get(path: str, read: Callable[[Any], T], query: Mapping[str, str | None] | None = None) -> Call[T]:
    return Call("GET", path, lambda answer: read(answer.data), parameters(query or {}))


def page(path: str, read: Callable[[Any], T], query: Mapping[str, str | None]) -> Call[Page[T]]:
    def read_page(answer: Answer) -> Page[T]:
        return Page([read(each) for each in answer.data], following(answer) or None)

    return Call("GET", path, read_page, parameters(query))


def next_page(call: Call[Page[T]], page: Page[T]) -> Call[Page[T]] | None:
    """Return the call for the page after this one; None after the last one."""
    if not page.following:
        return None
    return replace(call, query=page.following, read=call.read_following or call.read)


def pieces(path: str, file_format: FileFormat, query: Mapping[str, str | None]) -> Call[Page[bytes]]:
    """Return the call of a file's first page. A page is one piece, which is repeated as a whole where it is cut off.

    Without a number of rows the service would answer with the whole list, which could be repeated from its beginning
    alone.
    """
    media_type = MEDIA_TYPES.get(file_format)
    if media_type is None:
        raise ValueError(f"{file_format!r} is neither csv nor ndjson")

    def read(answer: Answer) -> Page[bytes]:
        response = answer.response
        if response.headers.get("Content-Type", "").partition(";")[0] != media_type:
            raise ValueError(f"it is not {media_type}")
        query_of_next = urlsplit(response.links.get("next", {}).get("url", "")).query
        return Page([response.content], dict(parse_qsl(query_of_next, keep_blank_values=True)) or None)

    def read_without_header(answer: Answer) -> Page[bytes]:
        page = read(answer)
        return replace(page, items=[piece.partition(b"\r\n")[2] for piece in page.items])

    return Call(
        "GET",
        path,
        read,
        {"limit": str(LARGEST_PAGE)} | parameters(query),
        accept=media_type,
        read_following=read_without_header if file_format == "csv" else None,
    )


def write(
    method: str,
    path: str,
    read: Callable[[Any, Receipt], T],
    body: Mapping[str, object] | None,
    idempotency_key: str | None,
) -> Call[T]:
    key = idempotency_key or new_idempotency_key()
    return Call(method, path, lambda answer: read(answer.data, answer.receipt), body=body, idempotency_key=key)


def minimal(call: Call[Any]) -> Call[ListSummary]:
    """Return the call of a list whose answer has none of its lines."""
    return replace(call, prefer="return=minimal", read=lambda answer: ListSummary.read(answer.data, answer.receipt))


def following(answer: Answer) -> dict[str, str]:
    """Return the query of the next page; empty after the last one."""
    return dict(parse_qsl(urlsplit(answer.json.get("next", "")).query, keep_blank_values=True))


def one_group(group_id: int) -> str:
    return f"{GROUPS}/{id_text(group_id)}"


def one_participant(group_id: int, participant_id: int) -> str:
    return f"{one_group(group_id)}/participants/{id_text(participant_id)}"


def one_entry(group_id: int, entry_id: int) -> str:
    return f"{one_group(group_id)}/entries/{id_text(entry_id)}"


def one_checkpoint(group_id: int, number: int) -> str:
    return f"{one_group(group_id)}/checkpoints/{id_text(number)}"


def line(each: TransferLine) -> dict[str, object]:
    ids = {"from": id_text(each.from_id), "to": id_text(each.to_id)}
    return {**ids, "amount": amount_text(each.amount), **given(metadata=each.metadata)}


def join_line(each: JoinLine) -> dict[str, object]:
    amount = amount_text(each.amount)
    return {"username": each.username, "amount": amount, **given(address=each.address, metadata=each.metadata)}


def given(**members: object) -> dict[str, object]:
    return {name: value for name, value in members.items() if value is not None}


def parameters(query: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in query.items() if value is not None}


def paging(after: int | None, page_size: int | None) -> dict[str, str | None]:
    return {"after": optional_number(after), "limit": optional_number(page_size)}


def history(
    kind: Kind | None,
    metadata: Metadata | None,
    since: datetime | None,
    until: datetime | None,
    before: int | None,
    order: Order | None,
) -> dict[str, str | None]:
    return {
        "kind": kind,
        "metadata": None if metadata is None else json.dumps(metadata, ensure_ascii=False, allow_nan=False),
        "since": time_text(since),
        "until": time_text(until),
        "before": optional_number(before),
        "order": order,
    }


def id_text(value: int) -> str:
    return str(operator.index(value))


def optional_number(value: int | None) -> str | None:
    return None if value is None else id_text(value)


def flag_text(value: bool | None) -> str | None:
    return None if value is None else str(value).lower()


def amount_text(amount: int) -> str:
    """Return the digits of an amount: no JSON parser on the way turns them into a float."""
    if isinstance(amount, bool):
        raise TypeError("an amount is an int")
    return str(operator.index(amount))


def time_text(at: Moment | None) -> str | None:
    """Return a time as RFC 3339 has it, or the id of an entry."""
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise ValueError("a time needs a time zone: datetime.now(UTC), for example")
        return at.isoformat()
    return optional_number(at)
