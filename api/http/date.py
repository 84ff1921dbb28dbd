"""Format the time for HTTP (RFC 9110, 5.6.7), once a second."""

from email.utils import formatdate
from time import time


class Clock:
    """Writes the current time, as `Fri, 27 Nov 2026 14:30:00 GMT`."""

    def __init__(self) -> None:
        self.second = -1
        self.text = ""

    def now(self) -> str:
        second = int(time())
        if second != self.second:
            self.second, self.text = second, formatdate(second, usegmt=True)
        return self.text


CLOCK = Clock()
