"""A client's connection: Sanic's, with time limits that a client cannot stretch by being slow.

Sanic counts from the last byte that came: whoever sends one now and then is never too late, and whoever does not read
an answer is waited for. Here a request's time runs from its first byte until it is whole, and an answer's until it is
read.
"""

from asyncio import TimerHandle
from time import monotonic
from typing import Any

from sanic.exceptions import RequestTimeout
from sanic.http import Stage
from sanic.server import HttpProtocol

# For an answer to be read: 4 MiB, the largest page, over a line of 600 kbit/s.
ANSWER_TIMEOUT = 60.0  # seconds


class Connection(HttpProtocol):
    """A connection whose client is cut off when a request does not arrive, or an answer is not read, in time."""

    __slots__ = ("unread",)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.unread: TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        began = self._time
        super().data_received(data)
        if self.is_amid_a_request():
            self._time = began

    def is_amid_a_request(self) -> bool:
        """Whether what arrives belongs to a request that has begun, or to one that was refused before it was whole."""
        return self.http is not None and (self.http.stage is not Stage.IDLE or bool(self.http.request_body))

    def check_timeouts(self) -> None:
        # Sanic takes a request whose header is there for one that is being handled.
        if (
            self._task is not None
            and self.http.stage is Stage.HANDLER
            and self.http.request_body
            and monotonic() - self._time > self.request_timeout
        ):
            self.http.exception = RequestTimeout("Request Timeout")
            self._task.cancel()
        else:
            super().check_timeouts()

    def pause_writing(self) -> None:
        super().pause_writing()
        assert self.transport is not None
        self.unread = self.loop.call_later(ANSWER_TIMEOUT, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.unread is not None:
            self.unread.cancel()
            self.unread = None
