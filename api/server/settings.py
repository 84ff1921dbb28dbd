"""The settings of the service and of one worker."""

import json
from dataclasses import dataclass
from typing import Self

GRACE = 20.0  # seconds that a worker gives the requests in hand: a wait for a connection and a call
WORKER_SETTINGS = "LEDGER_WORKER_SETTINGS"  # the environment variable with a worker's settings, as JSON


@dataclass(frozen=True)
class Settings:
    """The settings that all workers share.

    `open_at_first` requires no API key until one has been created; `log_requests` writes a log line for each request;
    `metrics_for_all` lets other machines than this one read the metrics; `drain` is for how many seconds the health
    check fails before a stop; `host` is the name or address that the service listens on; `cors_origins` are the origins
    whose web pages may use it. `account` is the OS user that the workers run as; it is empty for the current one.
    """

    workers: int
    open_at_first: bool
    log_requests: bool
    metrics_for_all: bool
    drain: int
    host: str = "127.0.0.1"
    cors_origins: tuple[str, ...] = ()
    account: str = ""


@dataclass(frozen=True)
class WorkerSettings:
    """One worker's settings: the shared ones, the connection string, and descriptors that it inherits.

    `listener` is the listening socket; `alive` is a pipe that ends with the supervisor; the worker writes a byte to
    `ready` once it answers; `memory` holds the metrics of all processes.
    """

    service: Settings
    conninfo: str
    listener: int
    alive: int
    ready: int
    memory: int

    @property
    def descriptors(self) -> tuple[int, ...]:
        return self.listener, self.alive, self.ready, self.memory

    def to_json(self) -> str:
        return json.dumps({**vars(self), "service": vars(self.service)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        members = json.loads(text)
        service = members.pop("service")
        return cls(service=Settings(**service | {"cors_origins": tuple(service["cors_origins"])}), **members)
