"""Random histories of a group with a vault: every checkpoint adds up, and an emergency pays everything that is left."""

import io
import json
import random

import psycopg
import pytest

from api.proofs import verify_snapshot
from tests.support import one
from tests.vaults.conftest import ALICE, BOB, CAROL, Bridge

OWNERS = (ALICE, BOB, CAROL, "0x" + "11" * 20, "0x" + "22" * 20)
STEPS = 120


class World:
    """What the chain knows of the group: what came in, went out, and the last checkpoint that was accepted."""

    def __init__(self, bridge: Bridge, ledger: psycopg.Connection, chance: random.Random) -> None:
        self.bridge, self.ledger, self.chance = bridge, ledger, chance
        self.paid = 0
        self.accepted: dict | None = None
        self.names = 0

    @property
    def credited(self) -> int:
        return sum(deposit["amount"] for deposit in self.bridge.deposits)

    def present(self) -> list[tuple[int, int]]:
        query = "select id, amount::bigint from ledger.list_participants(%s)"
        return self.ledger.execute(query, [self.bridge.group]).fetchall()

    def deposit(self) -> None:
        self.bridge.deposit(self.chance.choice(OWNERS), self.chance.choice((1, 7, 10**9)))

    def claim(self) -> None:
        self.names += 1
        values = [self.bridge.group, f"claimed {self.names}", self.chance.choice(OWNERS)]
        self.ledger.execute("select ledger.join_group(%s, %s, 0, address => %s)", values)

    def prove(self) -> None:
        if people := self.present():
            participant, _ = self.chance.choice(people)
            address = self.bridge.call("get_address", participant)["address"]
            try:
                self.bridge.call("bind_proved_address", participant, address)
            except psycopg.Error as error:
                if error.sqlstate != "LG010":  # somebody present has proved it
                    raise

    def transfer(self) -> None:
        people = self.present()
        if len(people) > 1:
            (sender, amount), (recipient, _) = self.chance.sample(people, 2)
            if amount:
                values = [self.bridge.group, sender, recipient, self.chance.randint(1, amount)]
                self.ledger.execute("select ledger.transfer(%s, %s, %s, %s)", values)

    def exit(self) -> None:
        if people := self.present():
            values = [self.bridge.group, self.chance.choice(people)[0]]
            self.ledger.execute("select ledger.exit_group(%s, %s)", values)

    def request(self) -> None:
        if people := self.present():
            participant, _ = self.chance.choice(people)
            address = self.bridge.call("get_address", participant)["address"]
            assert self.bridge.call("exit_requested", participant, address, *self.bridge.mined())["entry_id"]

    def pay_in_part(self) -> None:
        """End the window of the checkpoint in flight; small exits may be left."""
        if self.accepted and self.accepted["state"] == "accepted":
            for leaf in self.bridge.rows("list_unpaid_exits", self.accepted["number"]):
                if self.chance.random() < 0.7:
                    self.paid += self.bridge.pay(leaf)["amount"]
            self.bridge.call("record_publication", self.accepted["number"], "closed", None, None)
            self.accepted["state"] = "closed"

    def publish(self) -> None:
        if self.accepted and self.accepted["state"] == "accepted":
            self.pay_in_part()
        made = self.bridge.call("prepare_publication")
        # As the contract checks it.
        assert made["previous"] == (self.accepted["header"] if self.accepted else "0x" + "00" * 32)
        assert (made["deposits"], made["credited"]) == (len(self.bridge.deposits), self.credited)
        assert made["settled"] == self.paid
        assert made["total"] == self.credited - self.paid
        self.check(made)
        state = self.chance.choice(("accepted", "accepted", "accepted", "vetoed", "abandoned", "late veto"))
        if state == "late veto":
            self.bridge.call("record_publication", made["number"], "accepted", *self.bridge.mined())
            state = "vetoed"
        self.bridge.call("record_publication", made["number"], state, *self.bridge.mined())
        if state == "accepted":
            self.accepted = made | {"state": state}

    def check(self, made: dict) -> None:
        """All leaves make the root, as an auditor computes it."""
        snapshot = {"checkpoint": made, "leaves": self.bridge.rows("list_leaves", made["number"])}
        verify_snapshot.verify(io.StringIO(json.dumps(snapshot)), made["header"])

    def end(self) -> None:
        """Declare an emergency, and take everything out: afterwards the vault holds nothing."""
        number = self.accepted["number"] if self.accepted else 0
        included = self.accepted["deposits"] if self.accepted else 0
        leaves = self.bridge.rows("list_leaves", number) if number else []
        paid_before = {leaf["exit_entry"] for leaf in leaves if leaf["exit_entry"]}
        paid_before -= {
            leaf["exit_entry"] for leaf in (self.bridge.rows("list_unpaid_exits", number) if number else [])
        }
        self.bridge.freeze(number)
        for leaf in leaves:
            if leaf["exit_entry"] not in paid_before:
                self.paid += self.bridge.pay(leaf)["amount"]
        returned = 0
        for deposit in self.bridge.deposits[included:]:
            values = (deposit["index"], deposit["owner"], deposit["amount"])
            returned += self.bridge.call("reclaim_deposit", *values, *self.bridge.mined())["amount"]
        assert self.credited == self.paid + returned
        assert self.bridge.call("get_vault")["settled"] == self.paid


@pytest.mark.parametrize("seed", range(4))
def test_every_checkpoint_adds_up_and_an_emergency_pays_the_rest(bridge, ledger, admin, seed):
    world = World(bridge, ledger, random.Random(seed))
    steps = [
        *[world.deposit] * 4,
        *[world.transfer] * 8,
        *[world.exit] * 2,
        *(world.claim, world.prove, world.request, world.publish, world.publish, world.pay_in_part),
    ]
    for _ in range(STEPS):
        world.chance.choice(steps)()
    world.publish()
    world.end()
    published = one(admin, "select count(*) from ledger.publications")
    assert published > (3,)
