"""The socket that the workers share."""

import os
import socket

from api.postgres.preflight import StartError

BACKLOG = 1024

# Closes connections to clients that no longer answer or acknowledge data. Connections inherit the options of the
# listening socket (Linux).
KEEPALIVE = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 30,  # seconds
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 10,  # seconds
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 3,
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): 60_000,  # milliseconds
}

# For answers that a client has not acknowledged, for each connection, which inherits this option too.
SEND_BUFFER = 256 << 10  # bytes


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket. Raises StartError."""
    if port > 65535:  # the system would take the remainder
        raise StartError(f"{port} is no port: choose one from 1 to 65535")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        sock = socket.create_server(address, family=family, backlog=BACKLOG)
    except UnicodeError as error:  # a label that is empty, or too long
        raise StartError(f"cannot listen on {host}: it is no name of a host") from error
    except OSError as error:
        # Python adds words of its own to the system's message about a port in use.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise StartError(
            f"cannot listen on {host} port {port}: {reason}. LEDGER_HOST and LEDGER_PORT, or --host and --port, choose "
            "another."
        ) from error
    for (level, option), value in KEEPALIVE.items():
        sock.setsockopt(level, option, value)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    return sock
