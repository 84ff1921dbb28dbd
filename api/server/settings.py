"""The settings that all workers share."""

from dataclasses import dataclass

GRACE = 20.0  # seconds that a worker gives the requests in hand: a wait for a connection and a call


@dataclass(frozen=True)
class Settings:
    """What may be chosen for all workers.

    `open_at_first` asks for no API key until one has been made; `log_requests` says that each request has a line in the
    log, `metrics_for_all` that others than those on this machine may read the metrics, and `drain` for how many seconds
    the health check fails before a stop; `host` is what the service was told to listen on, and `cors_origins` are the
    origins whose web pages may use it. `account` is the OS user that the workers run as; ours where it is empty.
    """

    workers: int
    open_at_first: bool
    log_requests: bool
    metrics_for_all: bool
    drain: int
    host: str = "127.0.0.1"
    cors_origins: tuple[str, ...] = ()
    account: str = ""
