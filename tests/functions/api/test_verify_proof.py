"""ledger.verify_proof: a proof is checked without the tables, in SQL as by the file that clients copy away."""

import json
from copy import deepcopy

import psycopg
import pytest

from tests.exits.vectors import ATTACKED, MALFORMED, PROOFS, REFUSED, alterations, forged, malformed
from tests.support import one

PROOF = next(proof for proof in PROOFS if proof["checkpoint"]["header"] == ATTACKED["header"])
OTHER = "0x" + "12" * 32


def verify(ledger: psycopg.Connection, proof: object, **published: str) -> bool:
    names = "".join(f", {name} => %({name})s" for name in published)
    query = f"select ledger.verify_proof(%(proof)s::text::jsonb{names})"
    return one(ledger, query, {"proof": json.dumps(proof), **published})[0]


def test_accepts_every_proof_of_the_vectors(ledger):
    for proof in PROOFS:
        head = proof["checkpoint"]
        assert verify(ledger, proof) is True
        assert verify(ledger, proof, header=head["header"], root=head["root"]) is True


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_the_forged_proofs_of_the_vectors(ledger, name):
    assert verify(ledger, forged(name)) is False


@pytest.mark.parametrize("proof", [proof for proof in PROOFS if len(proof["siblings"]) > 1], ids=str)
def test_refuses_an_altered_proof(ledger, proof):
    altered = dict(alterations(proof))
    assert [name for name in altered if verify(ledger, altered[name]) is not False] == []


@pytest.mark.parametrize("name", MALFORMED)
def test_refuses_a_malformed_proof(ledger, name):
    assert verify(ledger, malformed(PROOF, name)) is False


@pytest.mark.parametrize("proof", [None, 1, "x", [], {}, {"checkpoint": {}, "leaf": {}, "siblings": []}])
def test_refuses_a_value_that_is_no_proof(ledger, proof):
    assert verify(ledger, proof) is False


def test_refuses_another_header_or_root_than_the_published_one(ledger):
    assert verify(ledger, PROOF, header=OTHER) is False
    assert verify(ledger, PROOF, root=OTHER) is False
    assert verify(ledger, PROOF, header=ATTACKED["header"], root=OTHER) is False


def test_takes_amounts_as_numbers_and_as_strings(ledger):
    proof = json.loads(json.dumps(PROOF))
    proof["leaf"]["amount"] = int(proof["leaf"]["amount"])
    proof["checkpoint"]["total"] = int(proof["checkpoint"]["total"])
    proof["siblings"][0]["sum"] = int(proof["siblings"][0]["sum"])
    assert verify(ledger, proof, header=ATTACKED["header"]) is True


@pytest.mark.parametrize("hash_", ["", "0x", "0x12", "12" * 32, "0x" + "0g" * 32, OTHER + "0"])
def test_refuses_a_header_or_a_root_that_is_no_hash(refuses, hash_):
    refuses("LG001", ["header"], "verify_proof", "{}", hash_, None)
    refuses("LG001", ["root"], "verify_proof", "{}", None, hash_)
    refuses("LG001", ["header", "root"], "verify_proof", "{}", hash_, hash_)


def test_refuses_a_leaf_that_does_not_say_whether_it_is_an_exit(ledger):
    proof = deepcopy(PROOF)
    del proof["leaf"]["exit_entry"]
    assert verify(ledger, proof) is False


def test_takes_a_proof_with_members_of_other_names(ledger):
    assert verify(ledger, PROOF | {"data": 1}) is True


# Numbers of a few bytes each, whose digits together are more than a text can have.
ENORMOUS = f"[{', '.join(['1e131071'] * 10_000)}]"


@pytest.mark.parametrize(
    "path",
    [
        *(("checkpoint", name) for name in ("vault", "previous", "root", "header", "number", "total")),
        *(("leaf", name) for name in ("owner", "amount", "exit_entry")),
        *(("siblings", 0, name) for name in ("hash", "sum")),
    ],
    ids=str,
)
def test_writes_no_enormous_value_out(ledger, path):
    proof = deepcopy(PROOF)
    place = proof
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = "enormous"
    text = json.dumps(proof).replace('"enormous"', ENORMOUS)
    assert one(ledger, "select ledger.verify_proof(%s::text::jsonb)", [text]) == (False,)


def test_null_is_no_proof(ledger):
    assert one(ledger, "select ledger.verify_proof(null)") == (False,)
