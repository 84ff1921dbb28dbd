"""`ledger bridge`: its options, and what is checked before anything is imported that may be missing."""

import argparse
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from bridge.halts import EXIT_STATUS, Halt, Later, Refusal

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from bridge.run import Plan

GWEI = 10**9
DECIMALS = 9  # of a fee in gwei


def add_arguments(parser: argparse.ArgumentParser, identifier: Callable[[str], int], rpc: str, check: str) -> None:
    """Add the options of `ledger bridge`. `rpc` and `check` are the nodes that the environment names."""
    nodes(parser, rpc, check)
    parser.add_argument("--publisher-key", metavar="FILE", type=Path, help="its keystore file")
    parser.add_argument("--publisher-passphrase", metavar="FILE", type=Path, help="what opens the publisher's keystore")
    parser.add_argument("--payer-key", metavar="FILE", type=Path, help="keystore file of another key, which pays exits")
    parser.add_argument("--payer-passphrase", metavar="FILE", type=Path, help="what opens the payer's keystore")
    parser.add_argument("--no-payer", action="store_true", help="pay nothing: leave all exits to others")
    parser.add_argument("--guardian", metavar="ADDRESS", type=address, help="halt if the vault has another guardian")
    parser.add_argument(
        "--pay-from", metavar="WEI", type=amount, default=0, help="leave smaller exits to others, unless requested"
    )
    parser.add_argument(
        "--max-fee", metavar="GWEI", type=gwei, default=100 * GWEI, help="the most for a unit of gas (100)"
    )
    parser.add_argument(
        "--every", metavar="INTERVAL", type=interval, default=30, help="the time between two rounds: 30s, 5m, 1h (30s)"
    )
    parser.add_argument("--once", action="store_true", help="one round, for cron")
    parser.add_argument("--metrics-file", metavar="PATH", type=Path, help="where to write the metrics")
    actions = parser.add_subparsers(dest="action", metavar="adopt|bind|key")
    adopt = actions.add_parser("adopt", help="make a restored group agree with the chain")
    adopt.add_argument("group", metavar="GROUP", type=identifier, help="its id")
    adopt.add_argument(
        "--snapshot",
        metavar="FILE",
        type=Path,
        required=True,
        help="what ledger snapshot printed of its last ripe root",
    )
    nodes(adopt, argparse.SUPPRESS, argparse.SUPPRESS)
    bind = actions.add_parser("bind", help="bind an address whose key has signed for a participant")
    bind.add_argument("group", metavar="GROUP", type=identifier, help="the id of the group")
    bind.add_argument("participant", metavar="PARTICIPANT", type=identifier, help="the id of the participant")
    bind.add_argument("address", metavar="ADDRESS", type=address, help="the address")
    bind.add_argument("--signature", metavar="HEX", type=signature, help="of the message, which it prints without one")
    key = actions.add_parser("key", help="make a keystore file, and print its address")
    key.add_argument("file", metavar="FILE", type=Path, help="the file to make")
    key.add_argument("--passphrase", metavar="FILE", type=Path, required=True, help="what is to open it")


def nodes(parser: argparse.ArgumentParser, rpc: str, check: str) -> None:
    absent = rpc == argparse.SUPPRESS
    parser.add_argument("--rpc", metavar="URL", default=rpc, help="the node (RPC)")
    parser.add_argument("--check-rpc", metavar="URL", default=check, help="another node, which must agree (CHECK_RPC)")
    parser.add_argument(
        "--confirmations",
        metavar="N",
        type=amount,
        default=argparse.SUPPRESS if absent else None,
        help="how many blocks make one final, only for chains whose nodes have no finalized block",
    )
    parser.add_argument(
        "--from-block",
        metavar="N",
        type=amount,
        default=argparse.SUPPRESS if absent else 0,
        help="where a group begins that was not followed yet: the block of the vault's deployment",
    )


def address(value: str) -> str:
    if not re.fullmatch("0x[0-9a-fA-F]{40}", value):
        raise argparse.ArgumentTypeError(f"{value!r} is not an address")
    return value


def signature(value: str) -> str:
    if not re.fullmatch("(0x)?[0-9a-fA-F]{130}", value):
        raise argparse.ArgumentTypeError("a signature is 65 bytes in hexadecimal digits")
    return value.removeprefix("0x")


def amount(value: str) -> int:
    if not re.fullmatch("[0-9]{1,78}", value):
        raise argparse.ArgumentTypeError(f"{value!r} is not a whole number")
    return int(value)


def gwei(value: str) -> int:
    """Read a fee in gwei, as wei."""
    found = re.fullmatch(rf"([0-9]{{1,12}})(?:\.([0-9]{{1,{DECIMALS}}}))?", value)
    wei = int(found[1] + (found[2] or "").ljust(DECIMALS, "0")) if found else 0
    if not wei:
        raise argparse.ArgumentTypeError(f"{value!r} is not a fee in gwei")
    return wei


def interval(value: str) -> int:
    """Read an interval, in seconds."""
    found = re.fullmatch(r"([1-9][0-9]{0,4})([smh])", value)
    if not found:
        raise argparse.ArgumentTypeError(f"{value!r} is not an interval: 30s, 5m or 1h, say")
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def check_installed(command: str = "bridge") -> None:
    """Raises Refusal where web3 is missing."""
    try:
        import eth_account  # noqa: F401
        import web3  # noqa: F401
    except ImportError as error:
        raise Refusal(
            f"ledger {command} needs web3, which is not installed: pip install 'ledger[bridge]' ({error})"
        ) from None


def make_key(options: argparse.Namespace) -> int:
    """Make a keystore file; needs no database."""
    check_installed()
    from bridge import keys

    print(keys.create_key(options.file, options.passphrase))
    return 0


def run(options: argparse.Namespace, conninfo: str) -> int:
    """Carry out the command on a database, and return its exit status. Raises Refusal and psycopg.Error."""
    check_installed()
    from bridge import run as running

    if options.action is None:
        plan = planned(options, conninfo)
        signal.signal(signal.SIGTERM, stop)
        return running.run(plan)
    try:
        print(bind(options, conninfo) if options.action == "bind" else adopt(options, conninfo))
    except Halt as halt:
        print(f"ledger: {halt}", file=sys.stderr)
        return EXIT_STATUS
    except Later as error:
        raise Refusal(str(error)) from None
    return 0


def adopt(options: argparse.Namespace, conninfo: str) -> str:
    from bridge import adopt as adopting
    from bridge import ledger, run

    if not options.rpc:
        raise Refusal("say which node to ask: --rpc")
    chain = run.nodes(options.rpc, options.check_rpc, options.confirmations)
    session = ledger.connect(conninfo)
    try:
        return adopting.adopt(chain, session, options.group, options.snapshot, options.from_block)
    finally:
        session.close()


def bind(options: argparse.Namespace, conninfo: str) -> str:
    from bridge import bind as binding
    from bridge import ledger

    session = ledger.connect(conninfo)
    try:
        if options.signature is None:
            return binding.message(session.row("get_vault", options.group).domain, options.participant)
        return binding.bind(session, options.group, options.participant, options.address, options.signature)
    finally:
        session.close()


def planned(options: argparse.Namespace, conninfo: str) -> "Plan":
    """Read the keys, and return what is to be done. Raises Refusal."""
    from eth_utils.address import to_checksum_address

    from bridge import run

    if not options.rpc:
        raise Refusal("say which node to ask: --rpc")
    folder = options.metrics_file.parent if options.metrics_file is not None else None
    if folder is not None and not os.access(folder, os.W_OK | os.X_OK):
        raise Refusal(f"cannot write into the folder of --metrics-file: {folder}")
    publisher = key(options, "publisher")
    if publisher is None:
        raise Refusal("the bridge needs the publisher's key: --publisher-key")
    if options.no_payer and options.payer_key:
        raise Refusal("--payer-key is of no use with --no-payer")
    payer = None if options.no_payer else key(options, "payer")
    if payer is None and not options.no_payer:
        raise Refusal("without the payer's key nobody answers a requested exit, which ends the group: --payer-key")
    return run.Plan(
        conninfo,
        run.nodes(options.rpc, options.check_rpc, options.confirmations),
        publisher,
        payer,
        to_checksum_address(options.guardian) if options.guardian else None,
        options.from_block,
        options.pay_from,
        options.max_fee,
        None if options.once else options.every,
        options.metrics_file,
    )


def key(options: argparse.Namespace, name: str) -> "LocalAccount | None":
    """Open a key's file, which an option names or which is a credential of the unit. Raises Refusal."""
    from bridge import keys

    path = getattr(options, f"{name}_key") or keys.credential(f"{name}-key")
    passphrase = getattr(options, f"{name}_passphrase") or keys.credential(f"{name}-passphrase")
    if path is None:
        return None
    if passphrase is None:
        raise Refusal(f"say which file has the passphrase of {path}: --{name}-passphrase")
    return keys.read_key(path, passphrase)


def stop(number: int, frame: FrameType | None) -> None:
    from api.admin.schedule import Stop

    signal.signal(number, signal.SIG_IGN)
    raise Stop
