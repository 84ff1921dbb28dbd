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

# States and classes after which it is not known whether the call was done. 08: a pooler or proxy lost its connection to
# the server; 40003 is statement_completion_unknown.
OUTCOME_UNKNOWN = ("08", "40003")

Values = list[bytes | None]


class Connection(psycopg.AsyncConnection):
    """A connection whose failed attempts are closed at once.

    The error holds them in a cycle: until Python's collector runs, a server that hung would open a session for each
    once it resumes.
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
    """Return whether a server reported that it does not know whether the call was done."""
    return (error.sqlstate or "").startswith(OUTCOME_UNKNOWN)


def disconnect(connection: psycopg.AsyncConnection) -> None:
    """Shut down the socket at once, without a message to a server that may not read it; a pending query then fails.

    A cancel would have to be waited for, and a late one does harm while a commit waits for a standby.
    """
    with suppress(OSError), socket.socket(fileno=os.dup(connection.pgconn.socket)) as sock:
        sock.shutdown(socket.SHUT_RDWR)


def closed_while_idle(connection: psycopg.AsyncConnection) -> bool:
    """Return whether the server closed an idle connection, without a round trip.

    Otherwise the next request of each connection would have an unknown outcome after a restart of the server.
    """
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    try:
        while poll.poll(0):  # unrequested messages: a changed setting, or a goodbye and the end of file
            connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return True
    return False


def is_away(conninfo: str) -> bool:
    """Return whether no server answers, or one that is still starting up, so that waiting may help.

    It does not help if a name is unknown or TLS fails: connecting then raises the reason.
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


# The messages of libpq and psycopg, in English in every locale, for errors that only a person can fix.
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
    """Return whether no host can be reached until a person changes the connection string or a certificate."""
    # With several addresses: the last error, a heading, and one part for each.
    first, *each = re.split(r"^- host: ", str(error), flags=re.MULTILINE)
    return all(PERMANENT.search(part) for part in each or [first])
