"""Write metrics into a file, for node exporter's textfile collector."""

import os
from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector


def write(collector: Collector, path: Path) -> None:
    """Replace the file with the numbers of now, at once and readable for everybody. Raises OSError."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    # The textfile collector reads names that end in .prom.
    new = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        new.write_bytes(generate_latest(registry))
        new.chmod(0o644)
        new.replace(path)
    except BaseException:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise
