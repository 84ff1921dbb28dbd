"""Walk through the story of a payment group: deposit, transfer, exit, payment, a veto, and the way out."""

from __future__ import annotations

import shutil
import signal
import sys
from types import FrameType

MISSING = "make demo needs node and npm, which fetch the chain that it runs on: apt-get install nodejs npm"


def main() -> int:
    if not (shutil.which("node") and shutil.which("npm")):
        print(f"demo: {MISSING}", file=sys.stderr)
        return 1
    from _pytest.outcomes import Skipped  # what the tests' chain raises where npm cannot fetch it

    from demo import stage, story

    signal.signal(signal.SIGTERM, stop)
    # Also where the shell that started it has it ignored, as one in the background does.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with stage.opened() as opened:
            story.play(opened)
    except (stage.Failed, Skipped) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def stop(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
