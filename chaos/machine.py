"""Two things that some faults need and not every machine has: a disk to fill, and a clock to set.

python -m chaos.machine LIBRARY FILE ARGUMENT… is `ledger ARGUMENT…` whose embedded server has another clock than the
machine: libfaketime, the LIBRARY, reads in FILE by how much. Python's own sleep does not bear it, so the workers go on
with the machine's clock, of which they only take the times in their log.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

from api import cli
from api.postgres import embedded

DISK = 2**30  # bytes
LIBRARIES = ("/usr/lib/*-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib*/faketime/libfaketimeMT.so.1")
CLOCK = {
    "FAKETIME_NO_CACHE": "1",  # a new time counts at once
    "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # as no step of a clock does
    "FAKETIME_DISABLE_SHM": "1",  # whose locks a killed process would leave behind
    "NO_FAKE_STAT": "1",
}


class MissingError(Exception):
    """Something that a fault needs is missing; the message says how to get it."""


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A new folder as a disk of DISK bytes, in memory. Raises MissingError."""
    folder.mkdir()
    options = f"size={DISK},mode=0755"
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "chaos", folder], capture_output=True, check=False
        )
    except FileNotFoundError:
        done = None
    if done is None or done.returncode:
        raise MissingError("only root may mount a small disk, and not everywhere")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> None:
    """Fill the free space of the folder's disk, in addition to earlier calls."""
    with (folder / "ballast").open("ab") as ballast:
        free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
        with suppress(OSError):  # somebody else took it
            os.posix_fallocate(ballast.fileno(), ballast.tell(), free)


def give_back(folder: Path) -> None:
    (folder / "ballast").unlink()


class Clock:
    """A clock for a ledger's embedded server, so many seconds from the machine's. Raises MissingError."""

    def __init__(self, folder: Path) -> None:
        libraries = [library for pattern in LIBRARIES for library in Path("/").glob(pattern[1:])]
        if not libraries:
            raise MissingError("needs libfaketime: apt-get install libfaketime")
        self.file = folder / "clock"
        self.set(0)
        self.program = (sys.executable, "-m", "chaos.machine", str(libraries[0]), str(self.file))

    def set(self, seconds: int) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.chmod(0o644)  # for the embedded server's own user
        new.rename(self.file)


def main() -> None:
    library, file = sys.argv[1:3]
    del sys.argv[1:3]
    variables = CLOCK | {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": file}
    clean = embedded._environment
    with patch.object(embedded, "_environment", lambda: clean() | variables):
        cli.main()


if __name__ == "__main__":
    main()
