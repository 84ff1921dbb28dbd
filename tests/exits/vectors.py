"""The test vectors of checkpoints and proofs, which SQL, Python and the contract reproduce."""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from hashlib import sha256
from pathlib import Path

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())
CASES = {case["name"]: case for case in VECTORS["cases"]}
REFUSED = {case["name"]: case for case in VECTORS["refused"]}
# This one describes its leaves in words.
CASES["a thousand leaves"]["leaves"] = [
    {
        "participant_id": number,
        "exit_entry": 0,
        "owner": f"0x{sha256(number.to_bytes(8, 'big')).hexdigest()[:40]}",
        "amount": str(number * 10**18 + number),
    }
    for number in range(1, 1001)
]
CHECKPOINT = (
    *("group_id", "number", "chain_id", "vault", "previous"),
    *("deposits", "credited", "settled", "leaf_count", "total", "root", "header"),
)


def checkpoint_of(case: dict) -> dict:
    return {name: case[name] for name in CHECKPOINT}


def proof_of(case: dict, proof: dict) -> dict:
    """A proof of a case in the form in which the ledger answers it."""
    leaf = case["leaves"][proof["index"]]
    return {
        "checkpoint": checkpoint_of(case),
        "leaf": {"index": proof["index"], **leaf, "exit_entry": leaf["exit_entry"] or None},
        "siblings": proof["siblings"],
    }


PROOFS = [proof_of(case, proof) for case in CASES.values() for proof in case.get("proofs", ())]
# Those that are to be refused are all of this case.
ATTACKED = next(case for case in CASES.values() if case["root"] == VECTORS["refused"][0]["root"])

TOP = 2**256 - 1


def octets(value: str) -> bytes:
    return bytes.fromhex(value[2:])


def integer(value: int | str, length: int = 8) -> bytes:
    return int(value).to_bytes(length, "big")


def spelled(digest: bytes) -> str:
    return f"0x{digest.hex()}"


def domain_of(checkpoint: dict) -> bytes:
    place = integer(checkpoint["chain_id"], 32) + octets(checkpoint["vault"]) + integer(checkpoint["group_id"])
    return sha256(b"\x03ledger/vault/1" + place).digest()


def header_of(checkpoint: dict) -> str:
    parts = (
        integer(checkpoint["number"]),
        octets(checkpoint["previous"]),
        integer(checkpoint["deposits"]),
        integer(checkpoint["credited"], 32),
        integer(checkpoint["settled"], 32),
        integer(checkpoint["leaf_count"]),
        integer(checkpoint["total"], 32),
        octets(checkpoint["root"]),
    )
    return spelled(sha256(b"\x02" + domain_of(checkpoint) + b"".join(parts)).digest())


def leaf_of(domain: bytes, leaf: dict) -> tuple[int, bytes]:
    """A leaf's node: its amount and its hash."""
    ids = integer(leaf["participant_id"]) + integer(leaf["exit_entry"] or 0)
    octets_of_leaf = ids + octets(leaf["owner"]) + integer(leaf["amount"], 32)
    return int(leaf["amount"]), sha256(b"\x00" + domain + octets_of_leaf).digest()


def levels_of(domain: bytes, leaves: list[dict]) -> list[list[tuple[int, bytes]]]:
    """The tree level by level, from the leaves to the root."""
    levels = [[leaf_of(domain, leaf) for leaf in leaves] or [(0, bytes(32))]]
    while len(levels[-1]) > 1:
        below = levels[-1]
        pairs = [below[place : place + 2] for place in range(0, len(below), 2)]
        levels.append([pair[0] if len(pair) == 1 else parent_of(*pair) for pair in pairs])
    return levels


def parent_of(left: tuple[int, bytes], right: tuple[int, bytes]) -> tuple[int, bytes]:
    parts = integer(left[0], 32) + left[1] + integer(right[0], 32) + right[1]
    return left[0] + right[0], sha256(b"\x01" + parts).digest()


def siblings_of(levels: list[list[tuple[int, bytes]]], index: int) -> list[dict]:
    siblings = []
    for level in levels[:-1]:
        if index ^ 1 < len(level):
            number, digest = level[index ^ 1]
            siblings.append({"sum": str(number), "hash": spelled(digest)})
        index //= 2
    return siblings


def alterations(proof: dict) -> Iterator[tuple[str, dict]]:
    """Yield every change of a valid proof of several siblings that must be refused, with its name.

    Those of the checkpoint have the header that fits them, so that it is the other checks that refuse.
    """

    def changed(change: Callable[[dict], object]) -> dict:
        copy = deepcopy(proof)
        change(copy)
        copy["checkpoint"]["header"] = header_of(copy["checkpoint"])
        return copy

    def leaf(**values: object) -> dict:
        return changed(lambda copy: copy["leaf"].update(values))

    def checkpoint(**values: object) -> dict:
        return changed(lambda copy: copy["checkpoint"].update(values))

    def shift(copy: dict, by: int) -> None:
        copy["leaf"]["amount"] = str(amount + by)
        copy["siblings"][0]["sum"] = str(first - by)

    shown, head, siblings = proof["leaf"], proof["checkpoint"], proof["siblings"]
    amount, first, index, count = int(shown["amount"]), int(siblings[0]["sum"]), shown["index"], head["leaf_count"]
    yield "amount + 1", leaf(amount=str(amount + 1))
    yield "another participant", leaf(participant_id=shown["participant_id"] + 1)
    yield "another exit", leaf(exit_entry=(shown["exit_entry"] or 0) + 1)
    yield "another owner", leaf(owner="0x" + "99" * 20)
    yield "the neighbour's index", leaf(index=index ^ 1)
    yield "an index beyond the last", leaf(index=count + index)
    yield "the leaf count as the index", leaf(index=count)
    yield "a negative index", leaf(index=-1)
    if len(siblings) > 1:
        yield "siblings swapped", changed(lambda copy: copy["siblings"].reverse())
    yield "a sibling too many", changed(lambda copy: copy["siblings"].append({"sum": "0", "hash": "0x" + "00" * 32}))
    yield "a sibling too few", changed(lambda copy: copy["siblings"].pop())
    yield "no sibling", changed(lambda copy: copy["siblings"].clear())
    if first:
        yield "forged sums that add up", changed(lambda copy: shift(copy, 1))
    yield "a sum of 2^256 - 1", changed(lambda copy: copy["siblings"][0].update(sum=str(TOP)))
    yield "a sum that overflows", changed(lambda copy: copy["siblings"][0].update(sum=str(TOP - amount + 1)))
    yield "a negative sum", changed(lambda copy: copy["siblings"][0].update(sum="-1"))
    yield "a sum of 2^256", changed(lambda copy: copy["siblings"][0].update(sum=str(TOP + 1)))
    yield "an inner node as the leaf", changed(lambda copy: copy["siblings"].pop(0))
    yield "total + 1", checkpoint(total=str(int(head["total"]) + 1), credited=str(int(head["credited"]) + 1))
    yield "a total that is not credited - settled", checkpoint(settled=str(int(head["settled"]) + 1))
    yield "fewer leaves", checkpoint(leaf_count=1)
    yield "twice the leaves", checkpoint(leaf_count=2 * count)
    yield "no leaves", checkpoint(leaf_count=0)
    yield "another root", checkpoint(root="0x" + "12" * 32)
    yield "another group", checkpoint(group_id=head["group_id"] + 1)
    yield "another chain", checkpoint(chain_id=head["chain_id"] + 1)
    yield "another vault", checkpoint(vault="0x" + "22" * 20)
    for name in ("number", "deposits"):
        altered = deepcopy(proof)
        altered["checkpoint"][name] += 1
        yield f"another {name}, which the header does not show", altered


def forged(name: str) -> dict:
    """A proof of the vectors that is to be refused, as an answer of the ledger, with the header that fits it."""
    case = REFUSED[name]
    head = checkpoint_of(ATTACKED) | {"leaf_count": case["leaf_count"]}
    head |= {"another group's domain": {"group_id": 43}, "another chain's domain": {"chain_id": 1}}.get(name, {})
    if case["total"] != head["total"]:
        head |= {"total": case["total"], "credited": str(int(case["total"]) + int(head["settled"]))}
    head["header"] = header_of(head)
    return {"checkpoint": head, "leaf": case["leaf"], "siblings": case["siblings"]}


# What is no proof, whatever is around it: a path into the proof, and what is there.
MALFORMED: dict[str, tuple[tuple[object, ...], object]] = {
    "a fraction": (("leaf", "amount"), 1.5),
    "a fraction as text": (("leaf", "amount"), "1.5"),
    "a sign": (("leaf", "amount"), "+1"),
    "a space": (("leaf", "amount"), " 1"),
    "an underscore": (("leaf", "amount"), "1_0"),
    "an empty amount": (("leaf", "amount"), ""),
    "2^256": (("leaf", "amount"), 2**256),
    "a list as the amount": (("leaf", "amount"), [1]),
    "true as the amount": (("leaf", "amount"), True),
    "no amount": (("leaf", "amount"), None),
    "digits of another script": (("leaf", "amount"), "\u0661"),
    "a participant 0": (("leaf", "participant_id"), 0),
    "a participant of 2^63": (("leaf", "participant_id"), 2**63),
    "an exit of 2^63": (("leaf", "exit_entry"), 2**63),
    "an index of 2^63": (("leaf", "index"), 2**63),
    "a participant of 79 digits": (("leaf", "participant_id"), "7".zfill(79)),
    "a group of 79 digits": (("checkpoint", "group_id"), "7".zfill(79)),
    "an amount of 79 digits": (("leaf", "amount"), "7".zfill(79)),
    "an empty exit": (("leaf", "exit_entry"), ""),
    "a short owner": (("leaf", "owner"), "0x" + "00" * 19),
    "an owner without 0x": (("leaf", "owner"), "00" * 21),
    "an owner that is no hex": (("leaf", "owner"), "0x" + "0g" * 20),
    "an owner with an end of line": (("leaf", "owner"), "0x" + "0" * 39 + "\n"),
    "a group 0": (("checkpoint", "group_id"), 0),
    "a number of 2^63": (("checkpoint", "number"), 2**63),
    "deposits of 2^63": (("checkpoint", "deposits"), 2**63),
    "a leaf count of 2^63": (("checkpoint", "leaf_count"), 2**63),
    "a chain of 2^256": (("checkpoint", "chain_id"), 2**256),
    "a negative settled sum": (("checkpoint", "settled"), -1),
    "a long root": (("checkpoint", "root"), "0x" + "00" * 33),
    "a number as the root": (("checkpoint", "root"), 0),
    "no header": (("checkpoint", "header"), None),
    "a list as the leaf": (("leaf",), []),
    "text as the checkpoint": (("checkpoint",), "x"),
    "no siblings": (("siblings",), None),
    "an object of siblings": (("siblings",), {}),
    "a number as a sibling": (("siblings", 0), 1),
    "null as a sibling": (("siblings", 0), None),
    "a sibling without a hash": (("siblings", 0, "hash"), None),
    "a short hash": (("siblings", 0, "hash"), "0x00"),
    "a fraction as a sum": (("siblings", 0, "sum"), 0.5),
    "a thousand siblings": (("siblings",), [{"sum": 0, "hash": "0x" + "00" * 32}] * 1000),
}


def malformed(proof: dict, name: str) -> dict:
    """The proof with one malformed value in it."""
    (*path, last), value = MALFORMED[name]
    copy = deepcopy(proof)
    place = copy
    for step in path:
        place = place[step]  # type: ignore[index]
    place[last] = value  # type: ignore[index]
    return copy
