"""`ledger guardian`: watch a vault until the command is stopped, or once."""

import argparse
import os
import signal
import time
from pathlib import Path

from eth_utils.address import to_checksum_address

from api.admin.schedule import Stop
from api.telemetry import textfile
from bridge.chain import Node
from bridge.command import stop
from bridge.guardian import Guardian, Mirror, Watched, domain_of
from bridge.guardian_metrics import GuardianMetrics
from bridge.halts import Halt, Later, Refusal
from bridge.keys import credential
from bridge.record import Record
from bridge.run import say
from bridge.signer import Signer, opened_key
from bridge.sources import are_files, read_source

RECORD = "guardian.sqlite"
ONCE = 60.0  # seconds for which --once looks again
PAUSE = 0.5  # seconds between these looks


def run(options: argparse.Namespace) -> int:
    """Watch, and return the exit status: 0 after a stop, or with --once where every root is decided. Raises Refusal."""
    if not options.rpc:
        raise Refusal("say which node to ask: --rpc")
    api_key = options.api_key_file or (None if are_files(options.snapshots) else credential("guardian-api-key"))
    source = read_source(options.snapshots, api_key)
    account = opened_key(options, "guardian")
    for folder in (options.folder, options.metrics_file.parent if options.metrics_file else None):
        if folder is not None and not os.access(folder, os.W_OK | os.X_OK):
            raise Refusal(f"cannot write into {folder}")
    node = Node(options.rpc)
    signal.signal(signal.SIGTERM, stop)
    try:
        watched = connect(node, options, account.address)
        record = Record(options.folder / RECORD, watched.chain_id, watched.vault)
        try:
            for left in options.folder.glob("*/*.part"):  # of a process that was killed
                left.unlink(missing_ok=True)
            signer = Signer(node, account, watched.chain_id, options.max_fee)
            mirror = Mirror(source, options.folder, options.keep, options.largest << 20)
            guardian = Guardian(node, signer, watched, mirror, record, GuardianMetrics(), say)
            say("started", vault=watched.vault, chain_id=watched.chain_id, node=node.host, guardian=account.address)
            if options.once:
                return once(guardian, options.metrics_file)
            while True:
                look(guardian, options.metrics_file)
                time.sleep(options.every)
        finally:
            record.close()
    except Stop:
        return 0


def connect(node: Node, options: argparse.Namespace, guardian: str) -> Watched:
    """Read what never changes, and wait for the node unless it is asked once. Raises Refusal where it does not fit."""
    vault = to_checksum_address(options.vault)
    while True:
        try:
            chain_id = node.chain_id()
            delay = int(node.call(vault, "DELAY", at="latest"))
            watched = Watched(vault, chain_id, delay, options.groups, options.from_block, options.confirmations)
            fits = node.call(vault, "domain", 1, at="latest") == domain_of(watched, 1)
            own = node.call(vault, "guardian", at="latest")
        except Halt:
            raise Refusal(f"{vault} is no vault on the chain of {node.host}") from None
        except Later as error:
            if options.once:
                raise Refusal(str(error)) from None
            say("later", level="error", message=str(error))
            time.sleep(options.every)
            continue
        if not fits:
            raise Refusal(f"{vault} is no vault of chain {chain_id}")
        if own != guardian:
            raise Refusal(f"the guardian of {vault} is {own}, and the key is that of {guardian}")
        return watched


def once(guardian: Guardian, metrics_file: Path | None) -> int:
    deadline = time.monotonic() + ONCE
    while not look(guardian, metrics_file):
        if time.monotonic() > deadline:
            return 1
        time.sleep(PAUSE)
    return 0


def look(guardian: Guardian, metrics_file: Path | None) -> bool:
    """Look at the chain once; return whether nothing failed and every root is decided."""
    metrics = guardian.metrics
    done = False
    try:
        done = guardian.round()
        metrics.round_at = time.time()
    except (Later, Halt) as error:
        # Of what its node answers nothing is a reason to stop: a guardian that has stopped vetoes nothing.
        metrics.failed += 1
        say("later", level="error", message=str(error))
    if metrics_file is not None:
        try:
            textfile.write(metrics, metrics_file)
        except OSError as error:
            metrics.failed += 1
            say("metrics_failed", level="error", message=f"cannot write {metrics_file}: {error.strerror}")
    return done
