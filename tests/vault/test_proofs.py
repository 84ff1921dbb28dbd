"""The contract agrees with SQL and Python on proofs: the same vectors, alterations and random trees."""

import random

import pytest
from eth_abi.exceptions import EncodingError

from api.proofs.verify_proof import InvalidProof, verify
from tests.exits.vectors import (
    CASES,
    PROOFS,
    REFUSED,
    TOP,
    alterations,
    domain_of,
    forged,
    header_of,
    leaf_of,
    levels_of,
    octets,
    parent_of,
    siblings_of,
    spelled,
)
from tests.vault.evms import PyEvm, Revm
from tests.vault.vault import (
    COMPILED,
    NO_ROOT,
    STRANGER,
    Books,
    Refused,
    Vault,
    header_tuple,
    leaf_tuple,
    proof_tuples,
    refused,
)

EVMS = pytest.mark.parametrize("evm", [Revm, PyEvm], ids=["revm", "py-evm"])


def at(evm: type[Revm] | type[PyEvm], checkpoint: dict) -> Vault:
    """A vault at the address and on the chain of the checkpoint."""
    immutables = b"".join(value.to_bytes(32, "big") for value in (checkpoint["chain_id"], 1, 1, 8, 1))
    chain = evm(checkpoint["chain_id"])
    chain.put_code(checkpoint["vault"], octets(COMPILED["runtime"]) + immutables)
    return Vault(chain, checkpoint["vault"])


def check(vault: Vault, proof: dict) -> bytes:
    """Check a proof in the form of the ledger's answers. Returns its header, raises Refused."""
    header, leaf = header_tuple(proof["checkpoint"]), leaf_tuple(proof["leaf"])
    return vault.read("check_proof", header, leaf, tuple(proof_tuples(proof["siblings"])))


@EVMS
def test_agrees_with_the_vectors(evm: type[Revm]) -> None:
    assert len(PROOFS) > 10
    for case in CASES.values():
        assert at(evm, case).read("domain", case["group_id"]) == octets(case["domain"])
    for proof in PROOFS:
        assert check(at(evm, proof["checkpoint"]), proof) == octets(proof["checkpoint"]["header"])


# The check that refuses each forged proof of the vectors.
WORDS = {
    "amount + 1": "sum",
    "another owner": "root",
    "another participant": "root",
    "an exit made present": "root",
    "present made an exit": "root",
    "another index": "root",
    "index = leaf_count": "index",
    "index beyond by leaf_count": "index",
    "siblings swapped": "root",
    "a sibling too many": "proof length",
    "a sibling too few": "proof length",
    "forged sums that add up": "root",
    "a sibling sum of 2^256 - 1": "sum",
    "a sibling sum of 2^256 - 10": "sum",
    "total + 1": "sum",
    "leaf_count 4": "proof length",
    "leaf_count 1": "sum",
    "another group's domain": "root",
    "another chain's domain": "root",
    "a carried leaf with a padding sibling": "proof length",
}


@EVMS
@pytest.mark.parametrize("name", REFUSED)
def test_refuses_the_forged_proofs_of_the_vectors(evm: type[Revm], name: str) -> None:
    proof = forged(name)
    with refused(WORDS[name]):
        check(at(evm, proof["checkpoint"]), proof)


# Alterations of the leaf and the siblings reach the proof's checks.
ALTERED = {
    "amount + 1": "sum",
    "another participant": "root",
    "another exit": "root",
    "another owner": "root",
    "the neighbour's index": "root",
    "an index beyond the last": "index",
    "the leaf count as the index": "index",
    "siblings swapped": "root",
    "a sibling too many": "proof length",
    "a sibling too few": "proof length",
    "no sibling": "proof length",
    "forged sums that add up": "root",
    "a sum of 2^256 - 1": "sum",
    "a sum that overflows": "sum",
    "an inner node as the leaf": "proof length",
}
# Those of the header are refused before them: it is not the published one.
OF_THE_HEADER = {
    *("total + 1", "a total that is not credited - settled", "fewer leaves", "twice the leaves", "no leaves"),
    *("another root", "another group", "another number, which the header does not show"),
    "another deposits, which the header does not show",
}
# Not in the encoding at all; or in the contract, which knows its chain and its address itself.
NOT_ENCODED = {"a negative index", "a negative sum", "a sum of 2^256", "another chain", "another vault"}


def test_withdraw_refuses_every_alteration_by_the_check_that_is_meant_for_it(books: Books) -> None:
    for participant in range(1, 8):
        books.deposit(participant, 1000 * participant)
    books.credit()
    for participant in range(1, 8):
        books.exit(participant)
    root = books.cycle()
    proof = {
        "checkpoint": root.header,
        "leaf": {"index": 4, **root.leaves[4]},
        "siblings": siblings_of(root.levels, 4),
    }
    assert len(proof["siblings"]) == 3
    found = {}
    for name, altered in alterations(proof):
        if name not in NOT_ENCODED:
            arguments = header_tuple(altered["checkpoint"]), leaf_tuple(altered["leaf"])
            with pytest.raises(Refused) as error:
                books.vault.send("withdraw", *arguments, proof_tuples(altered["siblings"]))
            found[name] = str(error.value)
    header, leaf, siblings = root.proof(4)
    with refused("sum"):
        books.vault.send("withdraw", header, (*leaf[:4], header[7] + 1), siblings)
    assert found == ALTERED | dict.fromkeys(OF_THE_HEADER, "header")
    books.vault.send("withdraw", *root.proof(4))


def test_the_encoding_has_no_negative_and_no_longer_numbers(books: Books) -> None:
    root = books.checkpoint()
    header, leaf = header_tuple(root.header), (0, 1, 1, STRANGER, 1)
    for index, sum_of_sibling in ((-1, 1), (0, -1), (0, TOP + 1)):
        with pytest.raises(EncodingError):
            books.vault.read("check_proof", header, (index, *leaf[1:]), ((sum_of_sibling, bytes(32)),))


@EVMS
@pytest.mark.parametrize("seed", range(2))
def test_agrees_with_python_on_random_trees(evm: type[Revm], seed: int) -> None:
    """Every leaf's proof is valid, and no other leaf's is with the same siblings."""
    chance = random.Random(seed)
    vault = Vault(evm())
    for count in [*range(1, 18), 31, 33, 64, 100]:
        limit = chance.choice([1, 1000, TOP // count])
        leaves = [
            {
                "participant_id": number * 3 + 1,
                "exit_entry": chance.choice([0, number + 1]),
                "owner": spelled(chance.randbytes(20)),
                "amount": chance.choice([0, chance.randint(0, limit)]),
            }
            for number in range(count)
        ]
        header = {
            **{"group_id": chance.randint(1, 2**63 - 1), "number": chance.randint(1, 2**63 - 1), "deposits": count},
            **{"chain_id": 31337, "vault": vault.address, "previous": spelled(chance.randbytes(32))},
            "leaf_count": count,
        }
        levels = levels_of(domain_of(header), leaves)
        total, digest = levels[-1][0]
        header |= {"credited": total, "settled": 0, "total": total, "root": spelled(digest)}
        header["header"] = header_of(header)
        for index in chance.sample(range(count), min(count, 6)):
            proof = {
                "checkpoint": header,
                "leaf": {"index": index, **leaves[index]},
                "siblings": siblings_of(levels, index),
            }
            verify(proof)
            assert check(vault, proof) == octets(header["header"])
            other = (index + chance.randint(1, count)) % (count + 1)
            if count > 1 and other != index:
                proof["leaf"] |= {"index": other}
                with pytest.raises(InvalidProof):
                    verify(proof)
                with pytest.raises(Refused):
                    check(vault, proof)


def test_checks_a_proof_of_forty_levels(vault: Vault) -> None:
    """The largest leaf count that may be published."""
    leaf = {"index": 2**40 - 1, "participant_id": 1, "exit_entry": 1, "owner": STRANGER, "amount": 1}
    header = {
        **{"group_id": 1, "number": 1, "chain_id": 31337, "vault": vault.address, "previous": NO_ROOT, "deposits": 0},
        **{"credited": 41, "settled": 0, "leaf_count": 2**40, "total": 41},
    }
    node, siblings = leaf_of(domain_of(header), leaf), []
    for level in range(40):
        sibling = (1, level.to_bytes(32, "big"))
        siblings.append({"sum": 1, "hash": spelled(sibling[1])})
        node = parent_of(sibling, node)
    header |= {"root": spelled(node[1])}
    header["header"] = header_of(header)
    proof = {"checkpoint": header, "leaf": leaf, "siblings": siblings}
    verify(proof)
    assert check(vault, proof) == octets(header["header"])
    siblings.append({"sum": 0, "hash": NO_ROOT})
    with refused(""):
        check(vault, proof)
