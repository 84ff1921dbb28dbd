"""api/proofs/verify_snapshot.py: all leaves of a checkpoint are checked without the ledger."""

import ast
import io
import json
import re
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest

from api.proofs import verify_snapshot
from api.proofs.verify_proof import InvalidProof
from tests.exits.vectors import ATTACKED, CASES, TOP, checkpoint_of, domain_of, header_of, levels_of, spelled
from tests.running import preloaded
from tests.running.commands import LEDGER, environment

FILE = Path(verify_snapshot.__file__)
OTHER = "0x" + "12" * 32
NOBODY = "0x" + "00" * 20


def snapshot_of(case: dict) -> dict:
    leaves = [
        {"index": index, **leaf, "exit_entry": leaf["exit_entry"] or None}
        for index, leaf in enumerate(case.get("leaves", []))
    ]
    return {"checkpoint": checkpoint_of(case), "leaves": leaves}


SNAPSHOT = snapshot_of(ATTACKED)


def made_of(leaves: list[tuple[int, int]]) -> dict:
    """The snapshot of a checkpoint that has these participants with these amounts, whatever they are."""
    checkpoint = checkpoint_of(CASES["one leaf, a group without a vault"])
    listed = [
        {"index": index, "participant_id": participant, "exit_entry": None, "owner": NOBODY, "amount": str(amount)}
        for index, (participant, amount) in enumerate(leaves)
    ]
    ((total, root),) = levels_of(domain_of(checkpoint), listed)[-1]
    checkpoint |= {"leaf_count": len(leaves), "total": str(total), "credited": str(total), "root": spelled(root)}
    return {"checkpoint": checkpoint | {"header": header_of(checkpoint)}, "leaves": listed}


def verify(snapshot: object, **published: str) -> str:
    return verify_snapshot.verify(io.StringIO(json.dumps(snapshot)), **published)


def refused(snapshot: object, otherwise: str, **published: str) -> None:
    with pytest.raises(InvalidProof, match=re.escape(otherwise)):
        verify(snapshot, **published)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_accepts_the_leaves_of_the_vectors(case):
    snapshot = snapshot_of(case)
    shown = verify(snapshot, header=case["header"], root=case["root"])
    assert shown == verify(snapshot)
    assert f"group {case['group_id']} has {case['leaf_count']} leaves of {case['total']} in all" in shown


@pytest.mark.parametrize("count", range(40))
def test_accepts_any_number_of_leaves(count):
    assert f"has {count} leaves of {count * 5}" in verify(made_of([(2 * place + 1, 5) for place in range(count)]))


def test_accepts_the_largest_amount():
    assert f"has 3 leaves of {TOP} in all" in verify(made_of([(1, 0), (2, TOP), (3, 0)]))


def test_counts_exits_that_are_not_settled():
    exits = sum(leaf["exit_entry"] is not None for leaf in SNAPSHOT["leaves"])
    assert exits > 0
    assert verify(SNAPSHOT).endswith(f"{exits} of them exits that are not settled")


# Of leaves whose root, sum and header are right: what a dishonest operator can make.
def test_refuses_two_leaves_of_one_participant():
    refused(made_of([(1, 5), (2, 5), (2, 5), (3, 5)]), "participant 2 has two leaves")
    refused(made_of([(1, 5), (2, 0), (2, 5)]), "participant 2 has two leaves")


def test_refuses_leaves_in_another_order():
    refused(made_of([(1, 5), (3, 5), (2, 5)]), "participant 2 comes after participant 3")
    refused(made_of([(2, 5), (3, 5), (2, 5)]), "participant 2 comes after participant 3")


def test_refuses_a_participant_0():
    refused(made_of([(0, 5), (1, 5)]), "an id is 0")


def changed(*path: object, to: object) -> dict:
    """The snapshot with another value, and the header that fits it."""
    copy = deepcopy(SNAPSHOT)
    place = copy
    for step in path[:-1]:
        place = place[step]  # type: ignore[index]
    place[path[-1]] = to  # type: ignore[index]
    copy["checkpoint"]["header"] = header_of(copy["checkpoint"])
    return copy


LEAVES = SNAPSHOT["leaves"]
CREDITED, TOTAL = (int(SNAPSHOT["checkpoint"][name]) for name in ("credited", "total"))
RAISED = str(int(LEAVES[1]["amount"]) + 1)


@pytest.mark.parametrize(
    ("altered", "otherwise"),
    [
        (changed("leaves", 1, "amount", to=RAISED), f"add up to {TOTAL + 1} of {TOTAL}"),
        (changed("leaves", 1, "owner", to="0x" + "99" * 20), "another root"),
        (changed("leaves", 1, "exit_entry", to=9999), "another root"),
        (changed("leaves", 1, "participant_id", to=LEAVES[2]["participant_id"]), "has two leaves"),
        (changed("leaves", 1, "index", to=0), "leaf 0 is in the place of leaf 1"),
        (changed("leaves", to=LEAVES[:-1]), f"there are {len(LEAVES) - 1} leaves of {len(LEAVES)}"),
        (changed("leaves", to=[]), f"there are 0 leaves of {len(LEAVES)}"),
        (changed("leaves", to=LEAVES[1:]), "leaf 1 is in the place of leaf 0"),
        (changed("leaves", to=[*LEAVES, LEAVES[0]]), "leaf 0 is in the place of"),
        (changed("leaves", to=[{**LEAVES[0], "amount": str(TOP)}, *LEAVES[1:]]), "2^256 or more"),
        (changed("leaves", 1, "amount", to=1.5), "amount must be a whole number"),
        (changed("leaves", 1, "amount", to=-1), "amount must be a whole number"),
        (changed("leaves", 1, "amount", to=str(TOP + 1)), "amount must be a whole number"),
        (changed("leaves", 1, "owner", to="0x00"), "owner must be 0x and 40 hex digits"),
        (changed("leaves", 1, to={}), "is missing"),
        (changed("checkpoint", "leaf_count", to=len(LEAVES) + 1), "leaves of"),
        (changed("checkpoint", "root", to=OTHER), "another root"),
        (changed("checkpoint", "settled", to="1"), "credited less what was settled"),
        ({**SNAPSHOT, "checkpoint": {**SNAPSHOT["checkpoint"], "number": 99}}, "hash to its header"),
    ],
)
def test_refuses_an_altered_snapshot(altered, otherwise):
    refused(altered, otherwise)


def test_refuses_a_total_that_the_leaves_do_not_have():
    copy = changed("checkpoint", "credited", to=str(CREDITED + 1))
    copy["checkpoint"]["total"] = str(TOTAL + 1)
    copy["checkpoint"]["header"] = header_of(copy["checkpoint"])
    refused(copy, f"add up to {TOTAL} of {TOTAL + 1}")


def test_refuses_another_header_or_root_than_the_published_one():
    refused(SNAPSHOT, "with that header", header=OTHER)
    refused(SNAPSHOT, "with that root", root=OTHER)


# the file

TEXT = json.dumps(SNAPSHOT)


@pytest.mark.parametrize("indent", [None, 1, 4])
def test_reads_any_layout(indent, monkeypatch):
    expected = verify(SNAPSHOT)
    text = json.dumps(SNAPSHOT, indent=indent) + "\n"
    assert verify_snapshot.verify(io.StringIO(text)) == expected
    # In pieces that end anywhere.
    monkeypatch.setattr(verify_snapshot, "LONGEST", 1_000)
    for size in range(1_000, 1_100):
        monkeypatch.setattr(verify_snapshot, "PIECE", size)
        assert verify_snapshot.verify(io.StringIO(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "[" * 100_000, TEXT[:-1], TEXT[:-2], TEXT[: len(TEXT) // 2], TEXT + "x", TEXT * 2),
        TEXT + " " * 100_000 + "x",
        TEXT[:-1] + ', "leaves": []}',
        TEXT[:-2] + ", ]}",
        TEXT.replace("}, {", "} {"),
        TEXT.replace('"leaves"', '"leave"'),
        json.dumps({"leaves": LEAVES, "checkpoint": SNAPSHOT["checkpoint"]}),
        TEXT.replace('"amount":', '"amount": 1, "amount":', 1),
        TEXT.replace('"number":', '"number": 1, "number":', 1),
        json.dumps({**SNAPSHOT, "leaves": None}),
        json.dumps({**SNAPSHOT, "leaves": [1]}),
        TEXT.replace('"exit_entry": null', '"exit_entry": ' + "9" * 10_000, 1),
    ],
)
def test_refuses_text_that_is_no_snapshot(text):
    with pytest.raises(InvalidProof):
        verify_snapshot.verify(io.StringIO(text))


def test_needs_no_more_memory_for_more_leaves(tmp_path):
    file = tmp_path / "snapshot.json"
    snapshot = made_of([(place, 10**18) for place in range(1, 20_001)])
    file.write_text(json.dumps(snapshot))
    del snapshot
    assert file.stat().st_size > 2_000_000
    tracemalloc.start()
    try:
        assert verify_snapshot.run(str(file), None, None) == 0
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


# the command


@pytest.fixture(params=["copied away", "ledger verify-snapshot"])
def run(request, tmp_path) -> Callable[..., tuple[int, str, str]]:
    if request.param == "copied away":
        shutil.copytree(FILE.parent, tmp_path / "proofs", ignore=shutil.ignore_patterns("__pycache__"))
        command = [sys.executable, "-m", "proofs.verify_snapshot"]
    else:
        command = [str(LEDGER), "verify-snapshot"]

    def call(*arguments: str, given: str | None = None) -> tuple[int, str, str]:
        if command[0] == str(LEDGER):
            done = preloaded.run([*command, *arguments], environment(), str(tmp_path), given or "", 60)
        else:
            done = subprocess.run(
                [*command, *arguments], input=given, cwd=tmp_path, capture_output=True, text=True, timeout=60
            )
        return done.returncode, done.stdout, done.stderr

    return call


def test_is_a_command(run, tmp_path):
    (tmp_path / "snapshot.json").write_text(TEXT)
    shown = verify(SNAPSHOT) + "\n"
    assert run("snapshot.json", "--header", ATTACKED["header"]) == (0, shown, "")
    assert run("-", "--root", ATTACKED["root"], given=TEXT) == (0, shown, "")
    status, printed, warned = run("snapshot.json")
    assert (status, printed) == (0, shown)
    assert "--header" in warned


def test_the_command_fails_for_what_is_not_proved(run, tmp_path):
    file = tmp_path / "snapshot.json"
    file.write_text(TEXT)
    for arguments in (["snapshot.json", "--header", OTHER], ["snapshot.json", "--root", OTHER], ["missing"]):
        status, printed, said = run(*arguments)
        assert (status, printed) == (1, "")
        assert said.startswith("not proved: ")
    file.write_bytes(TEXT.encode() + b"\xff")
    assert run("snapshot.json")[:2] == (1, "")
    assert run("snapshot.json", "--header", "0x12")[:2] == (2, "")


def test_needs_the_standard_library_alone():
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name).partition(".")[0]
        for node in ast.walk(ast.parse(FILE.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported <= {*sys.stdlib_module_names, "verify_proof"}
