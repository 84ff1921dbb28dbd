"""Fetch the snapshot of a checkpoint from where the operator serves it: files, or the ledger's own HTTP service."""

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from api.proofs.verify_proof import InvalidProof, Json, listed, member, members, read_checkpoint, whole
from bridge.halts import Refusal

SILENCE = 20.0  # seconds that a source may be silent
PIECE = 1 << 16  # bytes
PAGE = 1_000  # leaves
LONGEST_PAGE = 1 << 20  # bytes; a leaf has fewer than 300
FILE = "/{group}/{number}.json"  # where a folder has a snapshot, as a guardian keeps them


class Missing(Exception):
    """Why a snapshot cannot be had from its source."""


class Broken(Exception):
    """What is wrong with this machine, so that a snapshot cannot be kept."""


@dataclass(frozen=True)
class Source:
    """Where snapshots are: files at an address with {group} and {number}, or the address of a ledger's service."""

    url: str
    api_key: str | None = None

    @property
    def has_files(self) -> bool:
        return "{number}" in self.url


@dataclass(frozen=True)
class Limits:
    """How large a snapshot may be, and until when it must be there, in the time of time.monotonic()."""

    octets: int
    deadline: float


def are_files(url: str) -> bool:
    """Whether an address is one of files, and not of a ledger's service."""
    return "{number}" in url or url.startswith("file:")


def read_source(url: str, api_key: Path | None) -> Source:
    """Read where snapshots are from an option of the command. Raises Refusal."""
    scheme = urlsplit(url).scheme
    if scheme not in ("file", "http", "https"):
        raise Refusal("an address of snapshots begins with file://, http:// or https://")
    if scheme == "file" and "{number}" not in url:
        url = url.rstrip("/") + FILE
    if ("{number}" in url) is not ("{group}" in url):
        raise Refusal("the address of snapshots has {group} and {number}, or neither of them")
    if "{number}" in url and api_key is not None:
        raise Refusal("--api-key-file is for the address of a ledger's service, not for files")
    try:
        secret = api_key.read_text("ascii").strip() if api_key is not None else None
    except (OSError, UnicodeDecodeError):
        raise Refusal(f"cannot read {api_key}") from None
    if secret is not None and not re.fullmatch(r"[!-~]+", secret):
        raise Refusal(f"{api_key} does not have an API key in its only line")
    return Source(url.rstrip("/"), secret)


def fetch(source: Source, group: int, number: int, header: str, into: Path, limits: Limits) -> None:
    """Write the snapshot of a root to a file, which is not checked yet. Raises Missing and Broken."""
    pieces = (
        pieces_of_file(source, group, number, limits)
        if source.has_files
        else pieces_of_service(source, group, number, header, limits)
    )
    size = 0
    try:
        with into.open("wb") as file:
            for piece in pieces:
                size += len(piece)
                if size > limits.octets:
                    raise Missing(f"the snapshot has more than {limits.octets} bytes")
                file.write(piece)
    except OSError as error:  # those of the source are Missing by now
        raise Broken(f"cannot write {into}: {error.strerror}") from None


def pieces_of_file(source: Source, group: int, number: int, limits: Limits) -> Iterator[bytes]:
    url = source.url.replace("{group}", str(group)).replace("{number}", str(number))
    with opened(url, {}, limits) as answer:
        while piece := taken(answer, PIECE, limits):
            yield piece


def pieces_of_service(source: Source, group: int, number: int, header: str, limits: Limits) -> Iterator[bytes]:
    """The snapshot from the routes of the checkpoint and of its leaves, as `ledger snapshot` prints it."""
    path = f"/api/groups/{group}/checkpoints/{number}"
    shown = member(page(source, path, limits), "data")
    try:
        leaf_count = read_checkpoint(shown, header, None).leaf_count
    except InvalidProof as error:
        raise Missing(f"the service has another checkpoint: {error}") from None
    yield b'{"checkpoint":' + json.dumps(shown, separators=(",", ":")).encode() + b',"leaves":['
    seen, after, between = 0, 0, b"\n"
    while seen < leaf_count:
        try:
            leaves = listed(member(page(source, f"{path}/leaves?limit={PAGE}&after={after}", limits), "data"))
            after = whole(leaves[-1], "participant_id", 63) if leaves else 0
        except InvalidProof as error:
            raise Missing(f"the service answers with something else: {error}") from None
        seen += len(leaves)
        if not leaves or seen > leaf_count:
            raise Missing(f"the service has {seen} of {leaf_count} leaves")
        yield between + b",\n".join(json.dumps(leaf, separators=(",", ":")).encode() for leaf in leaves)
        between = b",\n"
    yield b"\n]}\n"


def page(source: Source, path: str, limits: Limits) -> Json:
    """A decoded answer of the ledger's service. Raises Missing."""
    headers = {"Accept": "application/json", "Prefer": "amounts=string"}
    if source.api_key is not None:
        headers["Authorization"] = f"Bearer {source.api_key}"
    text = b""
    with opened(source.url + path, headers, limits) as answer:
        while piece := taken(answer, PIECE, limits):
            text += piece
            if len(text) > LONGEST_PAGE:
                raise Missing("the service's answer is too long")
    try:
        decoded = json.loads(text, object_pairs_hook=members)
    except (ValueError, RecursionError):
        raise Missing("the service's answer is not JSON") from None
    if not isinstance(decoded, dict) or "data" not in decoded:
        raise Missing("the service's answer has no data")
    return decoded


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Another address would get the API key, and may be one of this machine alone."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


OPENER = urllib.request.build_opener(NoRedirect)


def opened(url: str, headers: dict[str, str], limits: Limits) -> HTTPResponse:
    try:
        answer: HTTPResponse = OPENER.open(
            urllib.request.Request(url, headers=headers),  # noqa: S310
            timeout=max(min(SILENCE, limits.deadline - time.monotonic()), 0.1),
        )
    except urllib.error.HTTPError as error:
        error.close()
        raise Missing(f"{urlsplit(url).hostname} answers with status {error.code}") from None
    except (OSError, HTTPException, ValueError) as error:
        where = urlsplit(url).hostname or url
        raise Missing(f"{where} does not answer: {getattr(error, 'reason', None) or error}") from None
    return answer


def taken(answer: HTTPResponse, length: int, limits: Limits) -> bytes:
    """The next bytes of an answer, which may come one by one but not for ever."""
    if time.monotonic() > limits.deadline:
        raise Missing("the snapshot was not there in time")
    try:
        return answer.read1(length) if hasattr(answer, "read1") else answer.read(length)
    except (OSError, HTTPException, ValueError) as error:
        raise Missing(f"the answer is broken off: {error}") from None
