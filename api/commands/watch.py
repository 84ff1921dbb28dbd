"""`ledger watch`: print the entries of all groups as they are written."""

import argparse
import signal
import time

from api.commands.arguments import service_of
from api.commands.members import entry_members, time_text
from api.commands.printing import note, print_json, print_line
from api.commands.statuses import AWAY, Unusable, reason, status_of
from ledger_client import Client, Entry, LedgerError
from ledger_client.feed import parse_place

PAUSE = 1.0  # seconds before the next attempt, once the client has used up its own


class Printed:
    """Prints each entry, with the place in the feed after it: the cursor that `--after` takes."""

    def __init__(self, after: str | None, group_id: int | None, as_json: bool) -> None:
        self.cursor = after
        self.group_id = group_id
        self.as_json = as_json
        self.entry: Entry | None = None
        self.complained = False
        self.begun = False

    def load(self) -> str | None:
        return self.cursor

    def store(self, place: str) -> None:
        """Print the entry before this place."""
        assert self.entry is not None
        if self.group_id in (None, self.entry.group_id):
            if self.as_json:
                print_json({**entry_members(self.entry), "cursor": place})
            else:
                print_line(described(self.entry))
        self.cursor = place
        self.complained = False


def watch(client: Client, options: argparse.Namespace) -> None:
    """Print entries until the command is stopped, or with --once up to the newest one. Raises LedgerError."""
    try:
        parse_place(options.after)
    except ValueError:
        raise Unusable(f"{options.after} is not a cursor") from None
    place = Printed(options.after, options.group, options.json)
    # Also where a shell runs it in the background, and so has it ignore the signal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        while not follow(client, place, options):
            time.sleep(PAUSE)
    except KeyboardInterrupt:
        if not options.json and place.cursor is not None:
            note(f"go on with --after {place.cursor}")
        raise


def follow(client: Client, place: Printed, options: argparse.Namespace) -> bool:
    """Print entries; return whether all were printed, False where the service is away."""
    try:
        if options.new and not place.begun:
            place.cursor = client.feed_end().cursor
        place.begun = True
        for entry in client.feed(place, follow=not options.once):
            place.entry = entry  # it is printed once its place is known, which is right away
    except LedgerError as error:
        if options.once or status_of(error) != AWAY:
            raise
        if not place.complained:
            note(f"{reason(error, service_of(options))}; trying again until it answers")
            place.complained = True
        return False
    return True


def described(entry: Entry) -> str:
    """Return an entry as a line."""
    sides = f"{f' from {entry.from_id}' if entry.from_id else ''}{f' to {entry.to_id}' if entry.to_id else ''}"
    return f"{time_text(entry.created_at)} group {entry.group_id} entry {entry.id}: {entry.kind} {entry.amount}{sides}"
