"""Read checkpoints that were kept elsewhere."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from api.proofs.verify_proof import Json, member, members, octets, whole

NEXT = re.compile(r"\S")


class KeptError(Exception):
    """Why a file has no checkpoints, in words for the person who named it."""


@dataclass(frozen=True)
class Kept:
    """What a checkpoint was when it was kept."""

    group: int
    number: int
    header: bytes
    seal: bytes


def read(file: Path) -> list[Kept]:
    """Return the checkpoints in a file: the output of commands, or answers of the service, one after another.

    Raises KeptError.
    """
    decoder = json.JSONDecoder(object_pairs_hook=without_leaves)
    found: list[Kept] = []
    try:
        text = file.read_text("utf-8")
        at = 0
        while begin := NEXT.search(text, at):
            value, at = decoder.raw_decode(text, begin.start())
            found += checkpoints_of(value)
    except (OSError, ValueError, RecursionError) as error:
        raise KeptError(f"{file} does not hold checkpoints: {error}") from None
    if not found:
        raise KeptError(f"{file} holds no checkpoint")
    return found


def without_leaves(pairs: list[tuple[str, object]]) -> Json | None:
    """A JSON object, unless it is a leaf: a snapshot may have a million, and its header commits to them."""
    decoded = members(pairs)
    return None if "participant_id" in decoded else decoded


def checkpoints_of(value: object) -> list[Kept]:
    """The checkpoints in an answer, a list, a snapshot, a proof or a checkpoint. Raises InvalidProof."""
    if isinstance(value, list):
        return [checkpoint for each in value for checkpoint in checkpoints_of(each)]
    for around in ("data", "checkpoint"):
        if isinstance(value, dict) and around in value:
            return checkpoints_of(member(value, around))
    group, number = whole(value, "group_id", 63), whole(value, "number", 63)
    return [Kept(group, number, octets(value, "header", 32), octets(value, "seal", 32))]
