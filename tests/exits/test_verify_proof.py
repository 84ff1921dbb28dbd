"""api/proofs/verify_proof.py: a proof is checked without the ledger, with the standard library alone."""

import ast
import json
import re
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest

from api.proofs import verify_proof
from api.proofs.verify_proof import InvalidProof, read, verify
from tests.exits.vectors import (
    ATTACKED,
    CASES,
    MALFORMED,
    PROOFS,
    REFUSED,
    alterations,
    domain_of,
    forged,
    header_of,
    levels_of,
    malformed,
    siblings_of,
    spelled,
)
from tests.running import preloaded
from tests.running.commands import LEDGER, environment

FILE = Path(verify_proof.__file__)
PROOF = next(proof for proof in PROOFS if proof["checkpoint"]["header"] == ATTACKED["header"])
ALTERED = {
    f"{name}, leaf {proof['leaf']['index']} of {proof['checkpoint']['leaf_count']}": altered
    for proof in PROOFS
    if len(proof["siblings"]) > 1
    for name, altered in alterations(proof)
}
HEADER = ATTACKED["header"]
OTHER = "0x" + "12" * 32
OWNED = next(proof for proof in PROOFS if int(proof["checkpoint"]["vault"], 16) and int(proof["leaf"]["owner"], 16))
OWNER = OWNED["leaf"]["owner"]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_tests_make_the_trees_of_the_vectors(case):
    """What other tests compare the ledger with."""
    assert spelled(domain_of(case)) == case["domain"]
    assert header_of(case) == case["header"]
    levels = levels_of(domain_of(case), case.get("leaves", []))
    assert levels[-1] == [(int(case["total"]), bytes.fromhex(case["root"][2:]))]
    for proof in case.get("proofs", ()):
        assert siblings_of(levels, proof["index"]) == proof["siblings"]


def test_accepts_every_proof_of_the_vectors():
    assert len(PROOFS) > 15
    for proof in PROOFS:
        head = proof["checkpoint"]
        assert f"participant {proof['leaf']['participant_id']} of group {head['group_id']} " in verify(proof)
        assert verify(proof, header=head["header"], root=head["root"]) == verify(proof)


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_the_forged_proofs_of_the_vectors(name):
    with pytest.raises(InvalidProof):
        verify(forged(name))


@pytest.mark.parametrize("name", ALTERED)
def test_refuses_an_altered_proof(name):
    with pytest.raises(InvalidProof):
        verify(ALTERED[name])


# Of a leaf with three siblings: the check that is meant for each change, and not one that happens to fail as well.
REASONS = {
    "amount + 1": "lead to the root",
    "another participant": "lead to the root",
    "another exit": "lead to the root",
    "another owner": "lead to the root",
    "the neighbour's index": "lead to the root",
    "siblings swapped": "lead to the root",
    "forged sums that add up": "lead to the root",
    "another root": "lead to the root",
    "another group": "lead to the root",
    "another chain": "lead to the root",
    "another vault": "lead to the root",
    "an index beyond the last": "beyond the last one",
    "the leaf count as the index": "beyond the last one",
    "no leaves": "beyond the last one",
    "a negative index": "index must be",
    "a sibling too many": "too many siblings",
    "a sibling too few": "siblings are missing",
    "no sibling": "siblings are missing",
    "an inner node as the leaf": "siblings are missing",
    "twice the leaves": "siblings are missing",
    "a sum of 2^256 - 1": "2^256 or more",
    "a sum that overflows": "2^256 or more",
    "a negative sum": "sum must be",
    "a sum of 2^256": "sum must be",
    "total + 1": "add up to the total",
    "a total that is not credited - settled": "credited less",
    "another number, which the header does not show": "hash to its header",
    "another deposits, which the header does not show": "hash to its header",
}


@pytest.mark.parametrize("name", REASONS)
def test_refuses_by_the_check_that_is_meant(name):
    with pytest.raises(InvalidProof, match=re.escape(REASONS[name])):
        verify(dict(alterations(PROOF))[name])


@pytest.mark.parametrize("name", MALFORMED)
def test_refuses_a_malformed_proof(name):
    with pytest.raises(InvalidProof):
        verify(malformed(PROOF, name))


@pytest.mark.parametrize("proof", [None, 1, "x", [], {}, {"checkpoint": {}, "leaf": {}, "siblings": []}])
def test_refuses_what_is_no_proof(proof):
    with pytest.raises(InvalidProof):
        verify(proof)


def test_refuses_another_header_or_root_than_the_published_one():
    for published in ({"header": OTHER}, {"root": OTHER}, {"header": HEADER, "root": OTHER}):
        with pytest.raises(InvalidProof):
            verify(PROOF, **published)


def test_refuses_a_leaf_that_does_not_say_whether_it_is_an_exit():
    proof = deepcopy(PROOF)
    del proof["leaf"]["exit_entry"]
    with pytest.raises(InvalidProof, match="exit_entry is missing"):
        verify(proof)


def test_takes_a_proof_with_members_of_other_names():
    assert verify(read(json.dumps(PROOF | {"data": 1}))) == verify(PROOF)
    assert verify(read(json.dumps({"data": PROOF, "next": None}))) == verify(PROOF)


def test_shows_an_exit_that_waits_for_its_payment():
    shown = next(verify(proof) for proof in PROOFS if proof["leaf"]["exit_entry"])
    assert "left with 1000000000000000000 in entry 17" in shown


def test_shows_the_owner_whom_a_vault_pays():
    for proof in PROOFS:
        owner = proof["leaf"]["owner"]
        paid = int(proof["checkpoint"]["vault"], 16) and int(owner, 16)
        assert (f", payable to {owner}: leaf" in verify(proof)) == bool(paid)
        assert ("payable" in verify(proof)) == bool(paid)
    spelled_otherwise = OWNED | {"leaf": OWNED["leaf"] | {"owner": f"0x{OWNER[2:].upper()}"}}
    assert f"payable to 0x{OWNER[2:].upper()}: leaf" in verify(spelled_otherwise)


def test_refuses_a_leaf_of_another_owner():
    for owner in (OWNER, OWNER.lower(), f"0x{OWNER[2:].upper()}"):
        assert verify(OWNED, owner=owner) == verify(OWNED)
    for owner in ("0x" + "12" * 20, "0x" + "00" * 20):
        with pytest.raises(InvalidProof, match=f"of another owner: {OWNER}"):
            verify(OWNED, owner=owner)


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, '{"data": 1e999', "NaN", '{"leaf": 1, "leaf": 2}', '{"n": ' + "9" * 10_000 + "}"]
)
def test_refuses_text_that_is_not_one_json_value(text):
    with pytest.raises(InvalidProof):
        verify(read(text))


def test_needs_the_standard_library_alone():
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name).partition(".")[0]
        for node in ast.walk(ast.parse(FILE.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported <= sys.stdlib_module_names


@pytest.fixture(params=["copied away", "ledger verify-proof"])
def command(request, tmp_path) -> list[str]:
    if request.param == "copied away":
        return [sys.executable, "-I", shutil.copy(FILE, tmp_path)]
    return [str(LEDGER), "verify-proof"]


def run(command: list[str], *arguments: str, given: str | None = None) -> tuple[int, str, str]:
    if command[0] == str(LEDGER):
        done = preloaded.run([*command, *arguments], environment(), "/", given or "", 60)
    else:
        done = subprocess.run([*command, *arguments], input=given, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_is_a_command(command, tmp_path):
    file = tmp_path / "proof.json"
    file.write_text(json.dumps({"data": PROOF}))
    shown = verify(PROOF) + "\n"
    assert run(command, str(file), "--header", HEADER) == (0, shown, "")
    assert run(command, str(file), "--root", ATTACKED["root"]) == (0, shown, "")
    assert run(command, "-", "--header", HEADER, given=json.dumps(PROOF)) == (0, shown, "")
    status, printed, warned = run(command, str(file))
    assert (status, printed) == (0, shown)
    assert "--header" in warned


def test_the_command_fails_for_what_is_not_proved(command, tmp_path):
    file = tmp_path / "proof.json"
    file.write_text(json.dumps(PROOF))
    for arguments in ([str(file), "--header", OTHER], [str(file), "--root", OTHER], [str(tmp_path / "missing")]):
        status, printed, said = run(command, *arguments)
        assert (status, printed) == (1, "")
        assert said.startswith("not proved: ")
    file.write_text(json.dumps(OWNED))
    assert (
        run(command, str(file), "--header", OWNED["checkpoint"]["header"], "--owner", OWNER.upper().replace("X", "x"))[
            0
        ]
        == 0
    )
    status, printed, said = run(command, str(file), "--owner", "0x" + "12" * 20)
    assert (status, printed, said) == (1, "", f"not proved: the leaf is of another owner: {OWNER}\n")
    file.write_bytes(b"\xff")
    assert run(command, str(file))[:2] == (1, "")
    assert run(command, str(file), "--header", "0x12")[:2] == (2, "")
