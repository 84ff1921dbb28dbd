"""`ledger statement`: print a participant's movements between two balances."""

import argparse
import sys
from collections.abc import Iterator

from api.commands.members import Members, time_text
from api.commands.printing import harmless, print_json, print_rows, put
from api.commands.statuses import Unusable
from ledger_client import Client, Statement, StatementLine

COLUMNS = ("created_at", "entry", "kind", "counterparty", "username", "change", "balance", "metadata")


def print_statement(client: Client, options: argparse.Namespace) -> None:
    """Print a statement, page by page unless as JSON. Raises LedgerError."""
    if options.csv and options.json:
        raise Unusable("--csv and --json exclude each other")
    if options.csv:
        for piece in client.download_statement(
            options.group, options.participant, since=options.since, until=options.until
        ):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        return
    pages = read_pages(client, options)
    first = next(pages)
    if options.json:
        print_json(document(first, pages))
    else:
        put(f"{harmless(first.username)}, participant {first.id} of group {first.group_id}")
        print_rows(COLUMNS, rows(first, pages), False)


def read_pages(client: Client, options: argparse.Namespace) -> Iterator[Statement]:
    page = client.get_statement(options.group, options.participant, since=options.since, until=options.until)
    yield page
    while page.next_after is not None:
        page = client.get_statement(
            options.group, options.participant, since=options.since, until=options.until, after=page.next_after
        )
        yield page


def document(page: Statement, following: Iterator[Statement]) -> Members:
    """Return the statement as the service would answer it in one page."""
    lines = [line_members(line) for line in page.lines]
    members: Members = {"username": page.username, "id": page.id, "group_id": page.group_id}
    members |= {"opening_balance": page.opening_balance, "lines": lines}
    for page in following:
        lines += map(line_members, page.lines)
    # Of the last page: without --to it includes entries that were written since the first one was read.
    return members | {"closing_balance": page.closing_balance}


def line_members(line: StatementLine) -> Members:
    return {
        "id": line.id,
        "kind": line.kind,
        "created_at": time_text(line.created_at),
        "counterparty_id": line.counterparty_id,
        "counterparty_username": line.counterparty_username,
        "change": line.change,
        "balance": line.balance,
        "metadata": line.metadata,
    }


def rows(page: Statement, following: Iterator[Statement]) -> Iterator[Members]:
    """Yield the opening balance, a row for each line, and the closing balance."""
    yield balance_row("opening", page.opening_balance)
    yield from map(line_row, page.lines)
    for page in following:
        yield from map(line_row, page.lines)
    yield balance_row("closing", page.closing_balance)


def line_row(line: StatementLine) -> Members:
    cells = (line.id, line.kind, line.counterparty_id, line.counterparty_username)
    return dict(
        zip(COLUMNS, (time_text(line.created_at), *cells, line.change, line.balance, line.metadata), strict=True)
    )


def balance_row(kind: str, balance: int) -> Members:
    return dict.fromkeys(COLUMNS) | {"kind": kind, "balance": balance}
