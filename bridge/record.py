"""What a guardian remembers, in a file of SQLite in its folder: a change of it survives a kill, or did not happen."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.chain import Block
from bridge.contract import Log
from bridge.halts import Refusal
from bridge.judgement import Paid

# Numbers are text where the vault's publisher chooses them: SQLite's integers have 63 bits, the vault's have more.
SCHEMA = """
create table if not exists vault (chain_id text not null, address text not null);
create table if not exists followed (block integer not null, hash text not null);
create table if not exists groups (id text primary key) without rowid;
create table if not exists payments (
  group_id       text not null,
  number         text not null,
  leaf           text not null,
  participant_id text not null,
  exit_entry     text not null,
  amount         text not null,
  primary key (group_id, number, leaf)
) without rowid;
-- By header: after a reorganization another root may have the same number.
create table if not exists roots (
  group_id text not null,
  header   text not null,
  number   text not null,
  seen_at  integer not null,               -- the block at which it was seen first
  wanted_at integer,                       -- the chain's time when its snapshot was looked for first
  outcome  text,                           -- clean, unclean or withheld
  reason   text,
  ended    integer not null default false, -- it is the latest root no more, in a final block, or ripe and decided
  primary key (group_id, header)
) without rowid;
"""


ROOTS = "select group_id, header, number, seen_at, wanted_at, outcome, reason from roots"


@dataclass(frozen=True)
class Seen:
    """A root that was seen. `wanted_at` is a time of the chain."""

    group: int
    header: str
    number: int
    seen_at: int
    wanted_at: int | None
    outcome: str | None
    reason: str | None


@dataclass(frozen=True)
class Payments:
    """The exits of a group that were paid, and what was paid in all."""

    exits: Paid
    total: int


class Record:
    """The file of one guardian, for one vault. Use it in one thread."""

    def __init__(self, path: Path, chain_id: int, vault: str) -> None:
        try:
            self.file = sqlite3.connect(path, isolation_level=None)
            self.file.execute("pragma synchronous = full")
            self.file.executescript(SCHEMA)
            with self.transaction():
                known = self.file.execute("select chain_id, address from vault").fetchone()
                if known is None:
                    known = (str(chain_id), vault)
                    self.file.execute("insert into vault values (?, ?)", known)
        except sqlite3.Error as error:
            raise Refusal(f"cannot use {path}: {error}") from None
        if known != (str(chain_id), vault):
            self.close()
            raise Refusal(f"{path} is of the vault {known[1]} on chain {known[0]}: choose another folder")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.file.execute("begin immediate")
        try:
            yield
        except BaseException:
            self.file.execute("rollback")
            raise
        self.file.execute("commit")

    def followed(self) -> tuple[int, str] | None:
        """The number and the hash of the last block whose events are recorded."""
        found: tuple[int, str] | None = self.file.execute("select block, hash from followed").fetchone()
        return found

    def follow(self, block: Block, logs: Sequence[Log]) -> None:
        """Record the events up to a block together with the block."""
        with self.transaction():
            for log in logs:
                if log.name == "Opened":
                    self.file.execute("insert or ignore into groups values (?)", [str(log.group)])
                elif log.name == "Paid":
                    self.file.execute("insert or ignore into payments values (?, ?, ?, ?, ?, ?)", payment(log))
                elif log.name == "Published":
                    self.see(int(log.values["group"]), str(log.values["header"]), int(log.values["number"]), log.block)
            self.file.execute("delete from followed")
            self.file.execute("insert into followed values (?, ?)", [block.number, block.hash])

    def forget(self) -> None:
        """Forget every event, so that they are read again from the first one."""
        with self.transaction():
            for delete in ("delete from followed", "delete from groups", "delete from payments"):
                self.file.execute(delete)

    def groups(self) -> list[int]:
        return sorted(int(group) for (group,) in self.file.execute("select id from groups"))

    def payments(self, group: int, newer: Sequence[Log]) -> Payments:
        """The payments of a group: those that are recorded, and those of events that are not recorded yet."""
        query = "select group_id, number, leaf, participant_id, exit_entry, amount from payments where group_id = ?"
        rows = {row[:3]: row[3:] for row in self.file.execute(query, [str(group)])}
        rows |= {row[:3]: row[3:] for row in map(payment, newer) if row[0] == str(group)}
        exits = {(int(participant), int(entry)) for participant, entry, _ in rows.values() if entry != "0"}
        return Payments(exits, sum(int(amount) for _, _, amount in rows.values()))

    def see(self, group: int, header: str, number: int, block: int) -> None:
        """Record a root that was seen at a block."""
        insert = "insert or ignore into roots (group_id, header, number, seen_at) values (?, ?, ?, ?)"
        self.file.execute(insert, [str(group), header, str(number), block])

    def roots(self, group: int | None = None) -> list[Seen]:
        """The roots that have not ended, of a group or of all."""
        found = [seen(row) for row in self.file.execute(f"{ROOTS} where not ended order by seen_at")]
        return [root for root in found if group in (None, root.group)]

    def root(self, group: int, header: str) -> Seen:
        """A root that was seen, whether it has ended or not."""
        (row,) = self.file.execute(f"{ROOTS} where group_id = ? and header = ?", [str(group), header])
        return seen(row)

    def want(self, group: int, header: str, at: int) -> None:
        """Record when a snapshot was looked for first."""
        update = "update roots set wanted_at = ? where group_id = ? and header = ? and wanted_at is null"
        self.file.execute(update, [at, str(group), header])

    def decide(self, root: Seen, outcome: str, reason: str | None = None) -> None:
        update = "update roots set outcome = ?, reason = ? where group_id = ? and header = ?"
        self.file.execute(update, [outcome, reason, str(root.group), root.header])

    def end(self, root: Seen) -> None:
        update = "update roots set ended = true where group_id = ? and header = ?"
        self.file.execute(update, [str(root.group), root.header])

    def close(self) -> None:
        self.file.close()


def seen(row: Sequence[Any]) -> Seen:
    group, header, number, *rest = row
    return Seen(int(group), header, int(number), *rest)


def payment(log: Log) -> tuple[str, ...]:
    """A row of payments."""
    names = ("group", "number", "index", "participant_id", "exit_entry", "amount")
    return tuple(str(log.values[name]) for name in names)
