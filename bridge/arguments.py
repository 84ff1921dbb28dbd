"""The options of `ledger guardian` and `ledger vault`. It imports nothing that may be missing."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from bridge.command import GWEI, address, amount, gwei, interval

UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
WEI = {"wei": 0, "gwei": 9, "ether": 18}  # decimals
FEWEST = 3  # snapshots that are kept: of the ripe root, of the next one, and of one that was vetoed in between

Identifier = Callable[[str], int]


def period(value: str) -> int:
    """Read a length of time, in seconds."""
    found = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", value)
    if not found:
        raise argparse.ArgumentTypeError(f"{value!r} is not a length of time: 30s, 5m, 12h or 30d, say")
    return int(found[1]) * UNITS[found[2]]


def ether(value: str) -> int:
    """Read an amount with its unit, in wei."""
    found = re.fullmatch(r"([0-9]{1,30})(?:\.([0-9]+))?(wei|gwei|ether)", value)
    if not found or len(found[2] or "") > WEI[found[3]]:
        raise argparse.ArgumentTypeError(f"{value!r} is not an amount: 1000wei, 20gwei or 0.01ether, say")
    return int(found[1] + (found[2] or "").ljust(WEI[found[3]], "0"))


def kept(value: str) -> int:
    if amount(value) < FEWEST:
        raise argparse.ArgumentTypeError(f"at least {FEWEST} snapshots of a group are kept")
    return int(value)


def add_node(parser: argparse.ArgumentParser, rpc: str) -> None:
    parser.add_argument("--rpc", metavar="URL", default=rpc, help="the node (RPC)")


def add_key(parser: argparse.ArgumentParser, rpc: str) -> None:
    """Add a node and a key that sends transactions through it."""
    add_node(parser, rpc)
    parser.add_argument("--key", metavar="FILE", type=Path, help="the keystore file of the key that sends it")
    parser.add_argument("--passphrase-file", metavar="FILE", type=Path, help="what opens the keystore")
    parser.add_argument(
        "--max-fee", metavar="GWEI", type=gwei, default=100 * GWEI, help="the most for a unit of gas (100)"
    )


def add_guardian(parser: argparse.ArgumentParser, identifier: Identifier, rpc: str) -> None:
    """Add the options of `ledger guardian`."""

    def identifiers(value: str) -> frozenset[int]:
        return frozenset(map(identifier, value.split(",")))

    add_key(parser, rpc)
    parser.add_argument("--vault", metavar="ADDRESS", type=address, required=True, help="the vault to watch")
    parser.add_argument(
        "--snapshots",
        metavar="URL",
        required=True,
        help="the address of the ledger's service, or of files, with {group} and {number} in it",
    )
    parser.add_argument("--api-key-file", metavar="FILE", type=Path, help="an API key of the service, with scope read")
    parser.add_argument(
        "--folder", metavar="PATH", type=Path, required=True, help="where it keeps snapshots, and what was paid"
    )
    parser.add_argument("--groups", metavar="ID,…", type=identifiers, help="some groups; all of the vault without it")
    parser.add_argument("--keep", metavar="N", type=kept, default=10, help="how many snapshots of a group stay (10)")
    parser.add_argument(
        "--largest", metavar="MIB", type=identifier, default=1_024, help="how large a snapshot may be (1024)"
    )
    parser.add_argument(
        "--every", metavar="INTERVAL", type=interval, default=12, help="the time between two rounds: 12s, 5m (12s)"
    )
    parser.add_argument(
        "--from-block", metavar="N", type=amount, default=0, help="the block of the vault's deployment (0)"
    )
    parser.add_argument(
        "--confirmations",
        metavar="N",
        type=amount,
        help="how many blocks make one final, only for chains whose nodes have no finalized block",
    )
    parser.add_argument("--metrics-file", metavar="PATH", type=Path, help="where to write the metrics")
    parser.add_argument("--once", action="store_true", help="until every root is decided, for a minute at most")


def add_vault(parser: argparse.ArgumentParser, identifier: Identifier, rpc: str) -> None:
    """Add the actions of `ledger vault`."""
    actions = parser.add_subparsers(
        dest="action", metavar="deploy|open|close|status|request|withdraw|emergency|reclaim|collect", required=True
    )

    deploy = actions.add_parser("deploy", help="make a vault, and print its address")
    deploy.add_argument("--publisher", metavar="ADDRESS", type=address, required=True, help="of the operator's key")
    deploy.add_argument("--guardian", metavar="ADDRESS", type=address, required=True, help="of somebody else's key")
    for option, meaning in (
        ("--delay", "from the publication of a root until it is ripe: 12h, say"),
        ("--window", "from then during which its exits are paid: 12h, say"),
        ("--silence", "without a ripe root until anybody may declare an emergency: 30d, say"),
    ):
        deploy.add_argument(option, metavar="TIME", type=period, required=True, help=meaning)
    deploy.add_argument("--minimum", metavar="AMOUNT", type=ether, required=True, help="least deposit: 0.01ether, say")
    add_key(deploy, rpc)

    for name, meaning in (
        ("open", "link a group to a vault, and let it take deposits"),
        ("close", "end a group that holds nothing"),
    ):
        action = actions.add_parser(name, help=meaning)
        add_group(action, identifier)
        add_key(action, rpc)

    status = actions.add_parser("status", help="print what a group holds, its roots, requests and times")
    add_group(status, identifier, all_without=True)
    status.add_argument("--json", action="store_true", help="print a line of JSON for each group")
    status.add_argument(
        "--from-block", metavar="N", type=amount, help="look for requests from there, not for twice the silence only"
    )
    add_node(status, rpc)

    request = actions.add_parser("request", help="request an exit at the vault")
    request.add_argument("file", metavar="FILE", type=Path, help="the participant's proof in the last ripe checkpoint")
    add_key(request, rpc)

    withdraw = actions.add_parser("withdraw", help="have exits paid, and in an emergency every leaf")
    withdraw.add_argument("file", metavar="FILE", type=Path, help="a proof, or a snapshot with the leaves of all")
    add_key(withdraw, rpc)

    emergency = actions.add_parser("emergency", help="declare an emergency")
    add_group(emergency, identifier)
    emergency.add_argument(
        "--request", metavar="FILE", type=Path, help="for a request that was not answered: the proof of its participant"
    )
    add_key(emergency, rpc)

    reclaim = actions.add_parser("reclaim", help="have deposits returned in an emergency that no ripe root includes")
    add_group(reclaim, identifier)
    reclaim.add_argument("--deposit", metavar="INDEX", type=amount, help="one of them; all without it")
    add_key(reclaim, rpc)

    collect = actions.add_parser("collect", help="have paid what an address has refused before")
    collect.add_argument("owner", metavar="OWNER", type=address, help="the address")
    collect.add_argument("--vault", metavar="ADDRESS", type=address, required=True, help="the vault")
    add_key(collect, rpc)


def add_group(parser: argparse.ArgumentParser, identifier: Identifier, all_without: bool = False) -> None:
    if all_without:
        parser.add_argument("group", metavar="GROUP", nargs="?", type=identifier, help="its id; all groups without it")
    else:
        parser.add_argument("group", metavar="GROUP", type=identifier, help="its id")
    parser.add_argument(
        "--vault", metavar="ADDRESS", type=address, help="the vault; without it the one that the database has"
    )
