"""adopt_snapshot: after a restore a group agrees with the last accepted checkpoint, or nothing changes."""

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.conftest import cloned
from tests.support import Database, create, one, refused
from tests.vaults.conftest import ALICE, BOB, CAROL, CHAIN, VAULT, Bridge, chain_hash

COPY = "ledger_restored"
DAVE = "0x" + "11" * 20


@dataclass
class World:
    """A ledger with one linked group, and what its chain shows."""

    ledger: psycopg.Connection
    admin: psycopg.Connection
    bridge: Bridge
    payouts: list[dict] = field(default_factory=list)

    @property
    def group(self) -> int:
        return self.bridge.group

    def transfer(self, sender: int, recipient: int, amount: int) -> None:
        self.ledger.execute("select ledger.transfer(%s, %s, %s, %s)", [self.group, sender, recipient, amount])

    def exit(self, participant: int) -> int:
        return one(self.ledger, "select entry_id from ledger.exit_group(%s, %s)", [self.group, participant])[0]

    def join(self, username: str, address: str) -> int:
        query = "select id from ledger.join_group(%s, %s, 0, address => %s)"
        return one(self.ledger, query, [self.group, username, address])[0]

    def cycle(self) -> dict:
        """Publish a checkpoint, and pay all its exits."""
        made = self.bridge.publish()
        self.payouts += self.bridge.close(made["number"])
        return made

    def snapshot(self, number: int) -> dict:
        """What `ledger snapshot` prints of a checkpoint."""
        checkpoint, leaves = self.bridge.call("get_checkpoint", number), self.bridge.rows("list_leaves", number)
        return {"checkpoint": checkpoint, "leaves": leaves}

    def adopt(self, snapshot: dict, deposits: object = None, payouts: object = None) -> bool:
        lists = (self.bridge.deposits if deposits is None else deposits, self.payouts if payouts is None else payouts)
        return self.bridge.call("adopt_snapshot", Jsonb(snapshot), *map(Jsonb, lists))["replayed"]

    def refuses(self, snapshot: dict, deposits: object = None, payouts: object = None, sqlstate: str = "LG013") -> str:
        """Adopt what must be refused without a change; return the message."""
        before = self.rows()
        lists = (self.bridge.deposits if deposits is None else deposits, self.payouts if payouts is None else payouts)
        diag = self.bridge.refused(sqlstate, "adopt_snapshot", Jsonb(snapshot), *map(Jsonb, lists))
        assert self.rows() == before
        return diag.message_primary or ""

    def rows(self) -> list:
        tables = ("participants", "entries", "settlements", "checkpoints", "publications", "payouts", "vault_deposits")
        return [
            self.admin.execute(f"select t::text from ledger.{table} as t order by 1").fetchall() for table in tables
        ]

    def leaves(self) -> list[tuple]:
        """The leaves that a checkpoint would have now."""
        query = """
        select p.id, null, p.amount::bigint
        from ledger.participants as p where p.group_id = %(group)s and p.exited_at is null
        union all
        select e.from_id, e.id, e.amount::bigint
        from ledger.settlements as s join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
        where s.group_id = %(group)s and s.settled_at is null
        order by 1
        """
        return self.admin.execute(query, {"group": self.group}).fetchall()

    def discrepancies(self) -> list:
        return self.admin.execute("select * from ledger.verify()").fetchall()


@contextmanager
def open_world(database: Database, group: int) -> Iterator[World]:
    with (
        database.connect() as ledger,
        database.connect(database.admin) as admin,
        database.connect("ledger_test_bridge") as session,
    ):
        yield World(ledger, admin, Bridge(session, group))


@pytest.fixture
def group(database: Database) -> int:
    with database.connect() as ledger:
        create(ledger, "DAI")
        return create(ledger, "ETH")


@pytest.fixture
def history(server, cloning, database: Database, group: int) -> Iterator[Callable[..., World]]:
    """Run what a backup has, take the backup, run what it lacks, and return the restored ledger and a last snapshot."""
    with ExitStack() as stack:

        def run(kept: Callable[[World], object], lost: Callable[[World, object], dict]) -> tuple[World, dict]:
            with open_world(database, group) as world:
                world.bridge.call("link_vault", CHAIN, VAULT)
                known = kept(world)
                chain = world.bridge.transactions, world.bridge.deposits, world.payouts
            stack.enter_context(cloned(cloning, COPY, "ledger_test"))
            with open_world(database, group) as world:
                world.bridge.transactions, world.bridge.deposits, world.payouts = chain
                made = lost(world, known)
                snapshot = world.snapshot(made["number"])
                chain = world.bridge.transactions, world.bridge.deposits, world.payouts
            restored = stack.enter_context(open_world(server.database(COPY), group))
            restored.bridge.transactions, restored.bridge.deposits, restored.payouts = chain
            return restored, snapshot

        yield run


def expected(snapshot: dict) -> list[tuple]:
    return [(leaf["participant_id"], leaf["exit_entry"], leaf["amount"]) for leaf in snapshot["leaves"]]


def alice_and_bob(world: World) -> tuple[int, int]:
    return (
        world.bridge.deposit(ALICE, 100)["participant_id"],
        world.bridge.deposit(BOB, 50)["participant_id"],
    )


def much(world: World, known: tuple[int, int]) -> dict:
    """Everything that a restore can lose: joins, deposits, transfers, exits, checkpoints, payments."""
    alice, bob = known
    carol = world.bridge.deposit(CAROL, 30)["participant_id"]
    dave = world.join("dave", DAVE)
    world.bridge.deposit(ALICE, 7)
    world.transfer(alice, dave, 60)
    world.transfer(bob, carol, 5)
    world.exit(carol)
    world.cycle()
    world.exit(bob)
    erin = world.join("erin", ALICE)
    world.transfer(alice, erin, 3)
    world.bridge.deposit(CAROL, 11)
    made = world.bridge.publish()
    # What no accepted checkpoint has stays lost.
    world.transfer(alice, dave, 1)
    return made


def continues(world: World) -> None:
    """Deposits, payments and checkpoints go on from the adopted one."""
    number = world.bridge.call("get_vault")["accepted_number"]
    for leaf in world.bridge.rows("list_unpaid_exits", number):
        world.bridge.pay(leaf)
    world.bridge.call("record_publication", number, "accepted", *world.bridge.mined())
    world.bridge.call("record_publication", number, "closed", None, None)
    world.bridge.deposit(DAVE, 13)
    # The chain is followed from before the backup on, and shows also what a restore lost.
    for earlier in range(1, number):
        for state in ("accepted", "vetoed"):
            answer = world.bridge.call("record_publication", earlier, state, *world.bridge.mined())
            assert answer["replayed"] is True
    for deposit in world.bridge.deposits:
        assert world.bridge.call("credit_deposit", *deposit.values())["replayed"] is True
    for payout in world.payouts:
        assert world.bridge.call("settle_payout", *payout.values())["replayed"] is True
    header = world.bridge.call("get_vault")["accepted_header"]
    made = world.bridge.publish()
    assert made["number"] == number + 1
    assert made["previous"] == header
    assert made["deposits"] == len(world.bridge.deposits)
    assert made["total"] == made["credited"] - made["settled"]
    assert world.discrepancies() == []


def test_everything_that_was_lost_is_made_again(history):
    world, snapshot = history(alice_and_bob, much)
    assert len(snapshot["leaves"]) == 5
    assert world.adopt(snapshot) is False
    assert world.leaves() == expected(snapshot)
    assert world.discrepancies() == []
    status = world.bridge.call("get_vault")
    checkpoint = snapshot["checkpoint"]
    assert (status["accepted_number"], status["accepted_header"]) == (checkpoint["number"], checkpoint["header"])
    assert (status["deposits"], status["cumulative"]) == (checkpoint["deposits"], checkpoint["credited"])
    assert status["settled"] == checkpoint["settled"]
    continues(world)


def test_again_changes_nothing(history):
    world, snapshot = history(alice_and_bob, much)
    world.adopt(snapshot)
    before = world.rows()
    assert world.adopt(snapshot) is True
    assert world.rows() == before


def test_proofs_of_the_adopted_checkpoint_are_there(history):
    world, snapshot = history(alice_and_bob, much)
    world.adopt(snapshot)
    number = snapshot["checkpoint"]["number"]
    assert world.bridge.rows("list_leaves", number) == snapshot["leaves"]
    for leaf in snapshot["leaves"]:
        proof = world.bridge.call("get_proof", leaf["participant_id"])
        assert proof["checkpoint"]["header"] == snapshot["checkpoint"]["header"]
        query = "select v from ledger.verify_proof(%s) as v"
        assert one(world.ledger, query, [Jsonb(proof)]) == (True,)


def test_a_ledger_that_has_the_checkpoint_keeps_what_came_after(history):
    def kept(world: World) -> dict:
        alice, bob = alice_and_bob(world)
        made = world.bridge.call("prepare_publication")
        world.transfer(alice, bob, 40)
        return made

    def lost(world: World, made: dict) -> dict:
        world.bridge.call("record_publication", made["number"], "accepted", *world.bridge.mined())
        return made

    world, snapshot = history(kept, lost)
    before = world.leaves()
    assert world.adopt(snapshot) is False
    assert world.adopt(snapshot) is True
    assert world.leaves() == before
    continues(world)


def test_checkpoints_before_it_are_closed_or_vetoed(history):
    def kept(world: World) -> tuple[int, int]:
        known = alice_and_bob(world)
        world.bridge.call("prepare_publication")
        return known

    def lost(world: World, known: tuple[int, int]) -> dict:
        world.bridge.call("record_publication", 1, "accepted", *world.bridge.mined())
        world.bridge.close(1)
        world.bridge.publish()
        world.bridge.call("record_publication", 2, "vetoed", *world.bridge.mined())
        return world.bridge.publish()

    world, snapshot = history(kept, lost)
    world.adopt(snapshot)
    states = [(row["number"], row["state"]) for row in world.bridge.rows("list_publications")]
    assert states == [(1, "closed"), (3, "accepted")]
    continues(world)


def test_what_happened_after_the_restore_is_brought_back(history):
    world, snapshot = history(alice_and_bob, lambda world, known: world.bridge.publish())
    alice, bob = (leaf["participant_id"] for leaf in snapshot["leaves"])
    mallory = world.join("mallory", DAVE)
    world.transfer(alice, mallory, 90)
    world.transfer(bob, mallory, 1)
    world.adopt(snapshot)
    assert world.leaves() == [*expected(snapshot), (mallory, None, 0)]
    continues(world)


def test_an_exit_of_nothing_that_was_settled_without_a_payment_is_settled(history):
    def kept(world: World) -> int:
        alice_and_bob(world)
        carol = world.join("carol", CAROL)
        world.exit(carol)
        return carol

    def lost(world: World, carol: int) -> dict:
        made = world.bridge.publish()
        (leaf,) = world.bridge.rows("list_unpaid_exits", made["number"])
        values = [leaf[key] for key in ("participant_id", "exit_entry", "owner", "amount")]
        world.bridge.call("settle_payout", *values, None, None, None)
        world.bridge.call("record_publication", made["number"], "closed", None, None)
        return world.bridge.publish()

    world, snapshot = history(kept, lost)
    world.adopt(snapshot)
    assert world.leaves() == expected(snapshot)
    continues(world)


def test_a_lost_address_is_only_claimed(history):
    world, snapshot = history(
        lambda world: world.bridge.deposit(ALICE, 100),
        lambda world, _: (world.bridge.deposit(BOB, 50), world.bridge.publish())[1],
    )
    world.adopt(snapshot)
    bob = snapshot["leaves"][1]["participant_id"]
    # Somebody may have joined for it who never proved it.
    assert world.bridge.deposit(BOB, 5)["participant_id"] > bob
    assert world.discrepancies() == []


def test_ids_of_the_snapshot_are_not_given_again(history):
    world, snapshot = history(alice_and_bob, much)
    world.adopt(snapshot)
    used = max(leaf["participant_id"] for leaf in snapshot["leaves"])
    assert world.join("frank", DAVE) > used
    query = "select max(id) from ledger.record where group_id = %s"
    assert one(world.admin, query, [world.group])[0] > max(leaf["exit_entry"] or 0 for leaf in snapshot["leaves"])


CHANGES = {
    "amount": lambda s: s["leaves"][0].update(amount=s["leaves"][0]["amount"] + 1),
    "owner": lambda s: s["leaves"][0].update(owner=DAVE),
    "exit": lambda s: s["leaves"][0].update(exit_entry=5),
    "participant": lambda s: s["leaves"][0].update(participant_id=99),
    "leaf-twice": lambda s: s["leaves"].insert(0, s["leaves"][0]),
    "leaf-missing": lambda s: s["leaves"].pop(),
    "order": lambda s: s["leaves"].reverse(),
    "total": lambda s: s["checkpoint"].update(total=s["checkpoint"]["total"] + 1),
    "settled": lambda s: s["checkpoint"].update(settled=1, total=s["checkpoint"]["total"] - 1),
    "previous": lambda s: s["checkpoint"].update(previous=chain_hash(1)),
    "group": lambda s: s["checkpoint"].update(group_id=1),
    "chain": lambda s: s["checkpoint"].update(chain_id=1),
    "overflow": lambda s: s["leaves"][0].update(amount=2**256 - 1),
}


def test_a_forged_snapshot_is_refused(history):
    world, snapshot = history(alice_and_bob, much)
    for change in CHANGES.values():
        forged = copy.deepcopy(snapshot)
        change(forged)
        assert forged != snapshot
        world.refuses(forged)


def test_what_is_no_snapshot_is_refused(history):
    world, snapshot = history(alice_and_bob, much)
    for value in (None, [], {}, {"checkpoint": {}, "leaves": []}, {"checkpoint": [], "leaves": []}, 5):
        world.refuses(value, sqlstate="LG001")
    world.refuses({"checkpoint": snapshot["checkpoint"]}, sqlstate="LG001")
    for member in ("number", "seal", "vault", "total"):
        checkpoint = {key: value for key, value in snapshot["checkpoint"].items() if key != member}
        world.refuses(snapshot | {"checkpoint": checkpoint}, sqlstate="LG001")


def test_a_deposit_or_a_payout_that_is_missing_or_wrong_is_refused(history):
    world, snapshot = history(alice_and_bob, much)
    deposits, payouts = world.bridge.deposits, world.payouts
    assert len(deposits) == 5
    assert len(payouts) == 1
    world.refuses(snapshot, deposits=[])
    world.refuses(snapshot, deposits=deposits[:-1])
    world.refuses(snapshot, deposits=[*deposits[:3], deposits[4]])
    world.refuses(snapshot, deposits=[*deposits[:4], deposits[4] | {"amount": 12, "cumulative": 199}])
    world.refuses(snapshot, payouts=[])
    world.refuses(snapshot, payouts=[payouts[0] | {"amount": payouts[0]["amount"] + 1}])
    world.refuses(snapshot, payouts=[payouts[0], payouts[0]])
    for lists in ({"deposits": 5}, {"deposits": [{}]}, {"payouts": [5]}, {"payouts": {}}):
        world.refuses(snapshot, **lists, sqlstate="LG001")


def test_an_exit_made_after_the_restore_is_refused(history):
    world, snapshot = history(alice_and_bob, lambda world, known: world.bridge.publish())
    world.exit(snapshot["leaves"][0]["participant_id"])
    world.refuses(snapshot)


def test_an_id_that_another_group_was_given_since_is_refused(history):
    def lost(world: World, known: object) -> dict:
        world.bridge.deposit(CAROL, 1)
        return world.bridge.publish()

    world, snapshot = history(alice_and_bob, lost)
    world.ledger.execute("select ledger.join_group(1, 'other', 5)")
    assert "one of group 1" in world.refuses(snapshot)


def test_a_ledger_that_is_ahead_of_the_snapshot_is_refused(history):
    def kept(world: World) -> dict:
        alice_and_bob(world)
        return world.cycle()

    world, snapshot = history(kept, lambda world, made: made)
    world.bridge.publish()
    world.refuses(snapshot)


def test_a_frozen_group_adopts_nothing_new(history):
    world, snapshot = history(alice_and_bob, much)
    world.bridge.freeze(0)
    world.refuses(snapshot, sqlstate="LG014")


def test_the_feed_is_restarted_first(history):
    world, snapshot = history(alice_and_bob, much)
    world.admin.execute("set session_replication_role = replica")
    world.admin.execute("update ledger.feeds set system_identifier = system_identifier + 1")
    world.admin.execute("reset session_replication_role")
    world.refuses(snapshot, sqlstate="LG009")
    world.admin.execute("select ledger.restart_feed()")
    world.adopt(snapshot)
    assert world.leaves() == expected(snapshot)
    continues(world)


def test_a_reader_has_no_right_to_adopt(history):
    world, snapshot = history(alice_and_bob, much)
    refused(world.ledger, "42501", "select ledger.adopt_snapshot(%s, %s)", [world.group, Jsonb(snapshot)])
