"""api/proofs/snapshot_proof.py: a proof is made of a snapshot, without the ledger."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from api.proofs.snapshot_proof import prove, siblings
from api.proofs.verify_proof import InvalidProof, verify
from tests.exits.test_verify_snapshot import made_of, snapshot_of
from tests.exits.vectors import CASES, proof_of
from tests.running.commands import done, refusal


@pytest.fixture
def kept(tmp_path: Path):
    """Write a snapshot as `ledger snapshot` prints it."""

    def write(snapshot: dict) -> Path:
        file = tmp_path / "snapshot.json"
        leaves = ",\n".join(map(json.dumps, snapshot["leaves"]))
        file.write_text(f'{{"checkpoint":{json.dumps(snapshot["checkpoint"])},"leaves":[\n{leaves}\n]}}\n')
        return file

    return write


def test_makes_the_proofs_of_the_vectors(kept):
    made = 0
    for case in CASES.values():
        for expected in (proof_of(case, proof) for proof in case.get("proofs", ())):
            assert prove(kept(snapshot_of(case)), expected["leaf"]["participant_id"]) == expected
            made += 1
    assert made > 15


@pytest.mark.parametrize("count", range(1, 35))
def test_proves_every_leaf_whatever_their_number(kept, count):
    snapshot = made_of([(number, number) for number in range(1, count + 1)])
    file = kept(snapshot)
    for number in range(1, count + 1):
        assert f"participant {number} of group" in verify(prove(file, number), header=snapshot["checkpoint"]["header"])


@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_the_siblings_of_a_leaf_are_all_others(count):
    for place in range(min(count, 40)):
        others = sorted(index for below in siblings(place, count) for index in below)
        assert others == [index for index in range(count) if index != place]


def test_refuses_what_it_cannot_prove(kept):
    snapshot = made_of([(1, 5), (2, 7)])
    with pytest.raises(InvalidProof, match="participant 3 has no leaf"):
        prove(kept(snapshot), 3)
    with pytest.raises(InvalidProof, match="it is checkpoint"):
        prove(kept(snapshot), 1, group=snapshot["checkpoint"]["group_id"] + 1)
    with pytest.raises(InvalidProof, match="it is checkpoint"):
        prove(kept(snapshot), 1, number=snapshot["checkpoint"]["number"] + 1)
    snapshot["leaves"][1]["amount"] = "8"
    with pytest.raises(InvalidProof, match="add up"):
        prove(kept(snapshot), 1)


def test_is_a_command(kept):
    snapshot = made_of([(1, 5), (2, 7), (5, 9)])
    file = kept(snapshot)
    group = snapshot["checkpoint"]["group_id"]
    assert json.loads(done("proof", str(group), "5", "--snapshot", file)) == prove(file, 5)
    assert "has no leaf" in refusal("proof", str(group), "3", "--snapshot", str(file))
    assert "cannot prove it" in refusal("proof", str(group), "3", "--snapshot", "/nonexistent")
    alone = [sys.executable, "-m", "api.proofs.snapshot_proof", file]
    printed = subprocess.run([*alone, "2"], capture_output=True, text=True, check=True)
    assert json.loads(printed.stdout) == prove(file, 2)
    missing = subprocess.run([*alone, "3"], capture_output=True, text=True, check=False)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr.startswith("not proved: ")
