"""One connection to PostgreSQL: open it, notice that it is lost, end it; and whether a server can be reached."""

import os
import re
import select
import socket
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import psycopg
from psycopg.conninfo import make_conninfo

CONNECT_TIMEOUT = 3  # seconds for each host; less than pools.WAIT_TIMEOUT, so that requests outlast one that is dead

# States and classes after which nobody knows whether the call was done. 08: the server that answers (a pooler, a proxy)
# lost its connection to the one that does the work; 40003 is statement_completion_unknown.
OUTCOME_UNKNOWN = ("08", "40003")

Values = list[bytes | None]


class Connection(psycopg.AsyncConnection):
    """A connection whose failed attempts are closed at once.

    The error holds them in a cycle: a server that stood still would get them all back as sessions, until Python's
    collector comes.
    """

    @classmethod
    async def connect(cls, conninfo: str = "", **options: Any) -> Self:
        try:
            return await super().connect(conninfo, **options)
        except psycopg.Error as error:
            traceback.clear_frames(error.__traceback__)
            raise


@dataclass(eq=False)
class ConnectionLost(Exception):
    """The connection broke while a call was under way, so that the call may have been done.

    `sqlstate` is set when a server reported it.
    """

    sqlstate: str | None = None


def outcome_is_unknown(error: psycopg.Error) -> bool:
    """Whether a server reported that it does not know whether the call was done."""
    return (error.sqlstate or "").startswith(OUTCOME_UNKNOWN)


def hang_up(connection: psycopg.AsyncConnection) -> None:
    """End the conversation at once, without a word to a server that may not listen: whoever waits for it sees the end.

    A cancel would have to be waited for, and one that comes late, while a commit waits for a standby, does harm.
    """
    with suppress(OSError), socket.socket(fileno=os.dup(connection.pgconn.socket)) as sock:
        sock.shutdown(socket.SHUT_RDWR)


def closed_while_idle(connection: psycopg.AsyncConnection) -> bool:
    """Whether the server closed an idle connection, found without a round trip.

    Otherwise a restart of the server would be an unknown outcome to the next request of each connection.
    """
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    try:
        while poll.poll(0):  # what a server says unasked: a setting that changed, or good-bye and the end of file
            connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return True
    return False


def is_away(conninfo: str) -> bool:
    """Whether there is no server that answers, or one that is still starting up; one that may come in time.

    Where no patience helps, because a name is unknown or TLS fails, it is not: connecting says why.
    """
    ours = make_conninfo(conninfo, connect_timeout=CONNECT_TIMEOUT)
    match psycopg.pq.PGconn.ping(ours.encode()):
        case psycopg.pq.Ping.REJECT:
            return True
        case psycopg.pq.Ping.NO_RESPONSE:
            try:
                psycopg.connect(ours).close()
            except psycopg.OperationalError as error:
                return not is_permanent(error)
    return False


# What libpq and psycopg say, in English whatever the locale, of that which only a person can change.
PERMANENT = re.compile(
    rf"""
    failed\ to\ resolve\ host\ .*\[Errno\ ({socket.EAI_NONAME}|{socket.EAI_NODATA})\]
    | certificate | private\ key | does\ not\ support\ SSL | GSSAPI\ encryption
    | SSL\ error:\ (?!unexpected\ eof)  # that one is a server that ends
    | invalid\ port\ number
    """,
    re.VERBOSE,
)


def is_permanent(error: psycopg.OperationalError) -> bool:
    """Whether none of the hosts can be reached until somebody changes the connection string or a certificate."""
    # With several addresses: the last error, a heading, and one part for each.
    first, *each = re.split(r"^- host: ", str(error), flags=re.MULTILINE)
    return all(PERMANENT.search(part) for part in each or [first])
