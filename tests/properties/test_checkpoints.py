"""Random histories: the root equals Python's, every leaf's proof is valid, and no altered proof is."""

import json
import random
from copy import deepcopy
from itertools import pairwise

import psycopg
import pytest

from api.proofs.verify_proof import InvalidProof, verify
from tests.exits.vectors import alterations, domain_of, header_of, levels_of, spelled
from tests.support import Database, call, create, join, one, transfer

STEPS = 60
NOBODY = "0x" + "00" * 20
# Around the bounds of the quarters of a word.
AMOUNTS = [0, 1, 2**63 - 1, 2**63, 2**64, 2**127, 2**128, 2**200, 2**250]


class History:
    """A group, and its expected content."""

    def __init__(self, ledger: psycopg.Connection, chance: random.Random, name: str) -> None:
        self.ledger, self.chance = ledger, chance
        self.group = create(ledger, name)
        self.held: dict[int, int] = {}
        self.waits: dict[int, tuple[int, int]] = {}
        self.owners: dict[int, str] = {}
        self.deposits = self.credited = self.settled = 0
        # Of each checkpoint its answer and its leaves.
        self.checkpoints: list[tuple[dict, list[dict]]] = []

    def step(self) -> None:
        actions = [self.join, self.join, self.checkpoint]
        if self.held:
            actions += [self.deposit, self.transfer, self.transfer, self.exit, self.bind]
        if self.waits:
            actions.append(self.settle)
        self.chance.choice(actions)()

    def join(self) -> None:
        amount = self.chance.choice([*AMOUNTS, self.chance.randrange(1000)])
        self.held[join(self.ledger, self.group, f"p{self.chance.random()}", amount)] = amount
        self.credit(amount)

    def deposit(self) -> None:
        person, amount = self.chance.choice([*self.held]), self.chance.randint(1, 2**64)
        call(self.ledger, "deposit", self.group, person, amount)
        self.held[person] += amount
        self.credit(amount)

    def credit(self, amount: int) -> None:
        self.deposits += 1
        self.credited += amount

    def transfer(self) -> None:
        sender = self.chance.choice([*self.held])
        others = [*(self.held.keys() - {sender})]
        if others and self.held[sender]:
            recipient, amount = self.chance.choice(others), self.chance.randint(1, self.held[sender])
            transfer(self.ledger, self.group, sender, recipient, amount)
            self.held[sender] -= amount
            self.held[recipient] += amount

    def bind(self) -> None:
        person = self.chance.choice([*self.held])
        if person not in self.owners:
            self.owners[person] = f"0x{self.chance.getrandbits(160) | 1:040x}"
            call(self.ledger, "bind_address", self.group, person, self.owners[person])

    def exit(self) -> None:
        person = self.chance.choice([*self.held])
        entry = call(self.ledger, "exit_group", self.group, person)[0][1]
        self.waits[person] = (entry, self.held.pop(person))

    def settle(self) -> None:
        person = self.chance.choice([*self.waits])
        entry, amount = self.waits.pop(person)
        call(self.ledger, "settle_exit", self.group, entry, "0xa")
        self.settled += amount

    def leaves(self) -> list[dict]:
        waiting = {person: (entry, amount) for person, (entry, amount) in self.waits.items()}
        everybody = sorted({person: (None, amount) for person, amount in self.held.items()} | waiting)
        found = []
        for index, person in enumerate(everybody):
            entry, amount = waiting.get(person) or (None, self.held[person])
            owner = self.owners.get(person, NOBODY)
            found.append(
                {"index": index, "participant_id": person, "exit_entry": entry, "owner": owner, "amount": amount}
            )
        return found

    def checkpoint(self) -> None:
        (made,) = one(self.ledger, "select to_json(c) from ledger.checkpoint(%s) as c", [self.group])
        leaves = self.leaves()
        ((total, root),) = levels_of(domain_of(made), leaves)[-1]
        assert made["number"] == len(self.checkpoints) + 1
        assert made["previous"] == (self.checkpoints[-1][0]["header"] if self.checkpoints else "0x" + "00" * 32)
        assert (made["root"], made["total"], made["leaf_count"]) == (spelled(root), total, len(leaves))
        figures = made["deposits"], made["credited"], made["settled"]
        assert figures == (self.deposits, self.credited, self.settled)
        assert made["header"] == header_of(made)
        self.checkpoints.append((made, leaves))
        self.look(made["number"])

    def look(self, number: int) -> None:
        """Read every leaf and every proof of a checkpoint."""
        made, leaves = self.checkpoints[number - 1]
        query = "select to_json(l) from ledger.list_leaves(%s, %s) as l"
        assert [leaf for (leaf,) in self.ledger.execute(query, [self.group, number])] == leaves
        for leaf in leaves:
            proof = self.proof(leaf["participant_id"], number)
            assert proof["leaf"] == leaf
            assert self.agrees(proof, made["header"])

    def proof(self, person: int, number: int) -> dict:
        query = "select to_json(p) from ledger.get_proof(%s, %s, %s) as p"
        return one(self.ledger, query, [self.group, person, number])[0]

    def agrees(self, proof: dict, header: str | None = None) -> bool:
        """Whether a proof is valid, as SQL and Python both say."""
        query = "select ledger.verify_proof(%s::text::jsonb, %s)"
        (in_sql,) = one(self.ledger, query, [json.dumps(proof), header])
        try:
            verify(proof, header)
        except InvalidProof:
            in_python = False
        else:
            in_python = True
        assert in_sql is in_python, proof
        return in_python


@pytest.mark.parametrize("number", range(6))
def test_checkpoints_of_random_histories_are_exact(database: Database, number: int) -> None:
    chance = random.Random(number)
    with database.connect() as ledger, database.connect(database.admin) as admin:
        history, other = History(ledger, chance, "ETH"), History(ledger, chance, "BTC")
        for _ in range(STEPS):
            history.step()
            if chance.random() < 0.2:
                other.step()
        history.checkpoint()
        other.join()
        other.checkpoint()

        made, leaves = history.checkpoints[-1]
        proofs = [history.proof(leaf["participant_id"], made["number"]) for leaf in leaves]
        for proof in proofs:
            if proof["siblings"]:
                for name, altered in alterations(proof):
                    assert not history.agrees(altered), name
        # A proof of another leaf, checkpoint or group proves nothing of this one.
        for proof, neighbour in pairwise(proofs):
            assert not history.agrees(proof | {"leaf": neighbour["leaf"]})
            assert not history.agrees(proof | {"siblings": neighbour["siblings"]})
        strange = other.checkpoints[-1][0]
        for proof in proofs:
            assert not history.agrees(proof, strange["header"])
            assert not history.agrees(proof | {"checkpoint": strange})
        for earlier, _ in history.checkpoints[:-1]:
            assert not history.agrees(proofs[0], earlier["header"])
            if earlier["root"] != made["root"]:
                assert not history.agrees(deepcopy(proofs[0]) | {"checkpoint": earlier})

        admin.execute("set role ledger_owner")
        (dropped,) = one(admin, "select ledger.drop_checkpoint_chunks(%s, 1)", [history.group])
        assert dropped == len([each for each, kept in history.checkpoints[:-1] if kept])
        for each in range(1, len(history.checkpoints) + 1):
            history.look(each)
        assert admin.execute("select kind, detail from ledger.verify()").fetchall() == []
