"""verify: each way in which the record of a vault can be wrong gives a discrepancy that says where."""

import re
from collections.abc import Iterator

import psycopg
import pytest

from db import freeze
from tests.conftest import Server, janitor
from tests.functions.owner.test_verify import COMMENTS, WITHOUT_RULES
from tests.support import Database, create, one
from tests.vaults.conftest import ALICE, BOB, CAROL, CHAIN, VAULT, Bridge, chain_hash

FUNCTIONS = (
    *("vault_discrepancies", "vault_deposit_discrepancies", "payout_discrepancies", "publication_discrepancies"),
    *("header_discrepancies", "frozen_discrepancies", "bridge_record_discrepancies"),
    "emergency_payout_discrepancies",
)
TEXTS = {name: (freeze.FUNCTIONS / "internal" / "verify" / f"{name}.sql").read_text() for name in FUNCTIONS}
# The parts of sentences that are no details.
OTHERS = {"vault deposit", "nothing to pay"}

# For each corruption, of a group without a vault, of a frozen one or of one that goes on: SQL, and a part of a detail.
CASES: dict[str, tuple[str, str]] = {
    "domain": ("update ledger.vaults set domain = sha256('') where group_id = {open}", "has another domain"),
    "time": ("update ledger.vaults set linked_at = now() + interval '1 day' where group_id = {open}", "was linked at"),
    "progress": ("update ledger.vaults set followed_hash = null where group_id = {open}", "has followed block"),
    "emergency-of-nothing": (
        "update ledger.vaults set emergency_number = 9 where group_id = {frozen}",
        "is frozen at checkpoint 9, which was not accepted",
    ),
    "emergency-of-a-vetoed-one": (
        "update ledger.vaults set emergency_number = 2 where group_id = {frozen}",
        "is frozen at checkpoint 2, which was not accepted",
    ),
    "half-an-emergency": (
        "update ledger.vaults set emergency_block = null where group_id = {frozen}",
        "has an emergency without its transaction, or a closing without one",
    ),
    "half-a-closing": (
        "update ledger.vaults set closed_at = now() where group_id = {open}",
        "has an emergency without its transaction, or a closing without one",
    ),
    "moved-after-the-emergency": (
        "update ledger.vaults set frozen_at = frozen_at - interval '1 hour' where group_id = {frozen}",
        "the entry is of after the emergency",
    ),
    "thawed": (
        "update ledger.participants set frozen_at = null where id = {alice}",
        "present in a frozen group and not frozen, or frozen in another one",
    ),
    "frozen-alone": (
        "update ledger.participants set frozen_at = now() where group_id = {open} and exited_at is null",
        "present in a frozen group and not frozen, or frozen in another one",
    ),
    "frozen-without-a-vault": (
        "update ledger.participants set frozen_at = now() where group_id = {none}",
        "present in a frozen group and not frozen, or frozen in another one",
    ),
    "not-marked": (
        "update ledger.participants set address_proved = null where id = {alice}",
        "the address is not marked as that of a group with a vault",
    ),
    "marked-without-a-vault": (
        "update ledger.participants set address_proved = true where group_id = {none}",
        "the address is not marked as that of a group with a vault",
    ),
    "without-an-address": (
        "update ledger.participants set address = null, address_xid = null where id = {alice}",
        "is so in another group, or is missing",
    ),
    "address-twice": (
        "drop index ledger.participants_address_unique_while_present;"
        "update ledger.participants set address_proved = true where group_id = {frozen} and username = 'mallory'",
        "who are present have the address",
    ),
    "request-of-somebody-present": (
        "insert into ledger.exit_requests values ({frozen}, {alice}, sha256(''), 5)",
        "the participant requested an exit and is present",
    ),
    "closed-with-money": (
        "update ledger.vaults set closed_at = now(), closing_transaction = sha256(''), closing_block = 5"
        " where group_id = {open}",
        "was closed, took",
    ),
    "removed-and-not-closed": (
        "update ledger.groups set closed_at = now() where id = {open}",
        "is not closed, and the group was removed",
    ),
    "nonce-of-another-chain": (
        "update ledger.bridge_transactions set chain_id = chain_id + 1",
        "is of another chain, of no checkpoint, or half finished",
    ),
    "nonce-half-finished": (
        "update ledger.bridge_transactions set succeeded = null where finished_at is not null",
        "is of another chain, of no checkpoint, or half finished",
    ),
    "nonce-of-no-checkpoint": (
        "update ledger.bridge_transactions set number = 99",
        "is of another chain, of no checkpoint, or half finished",
    ),
    "number-without-a-root": (
        "delete from ledger.unknown_roots where group_id = {open}",
        "has none before it",
    ),
    "unknown-root-of-its-own": (
        "update ledger.unknown_roots as u set number = c.number, header = c.header from ledger.checkpoints as c"
        " where c.group_id = {open} and c.number = 1 and u.group_id = c.group_id",
        "is unknown, and is a checkpoint or recorded at",
    ),
    "unknown-root-of-tomorrow": (
        "update ledger.unknown_roots set recorded_at = now() + interval '1 day'",
        "is unknown, and is a checkpoint or recorded at",
    ),
    "deposit-lost": (
        "delete from ledger.vault_deposits where group_id = {frozen} and deposit_index = 1",
        "deposit 2 comes after deposit 0",
    ),
    "deposit-without-a-credit": (
        "delete from ledger.vault_deposits where group_id = {frozen} and deposit_index = 2",
        "the entry brought money, and no deposit into the vault did",
    ),
    "sum": (
        "update ledger.vault_deposits set cumulative = cumulative + 1 where group_id = {frozen} and deposit_index = 1",
        "deposit 1 makes 151, and they add up to 150",
    ),
    "amount": (
        "update ledger.vault_deposits set amount = amount + 1 where group_id = {frozen} and deposit_index = 1",
        "and its entry or its participant is another one",
    ),
    "credited-to-another": (
        "update ledger.vault_deposits set participant_id = {alice} where group_id = {frozen} and deposit_index = 1",
        "and its entry or its participant is another one",
    ),
    "owner": (
        "update ledger.vault_deposits set address = decode(repeat('11', 20), 'hex') where group_id = {frozen}",
        "and its entry or its participant is another one",
    ),
    "credited-twice": (
        "alter table ledger.vault_deposits drop constraint vault_deposits_credited_once;"
        "update ledger.vault_deposits set entry_id = (select min(entry_id) from ledger.vault_deposits)"
        " where group_id = {frozen}",
        "deposits name the entry",
    ),
    "deposit-without-a-vault": (
        "insert into ledger.vault_deposits values"
        " ({none}, 0, decode(repeat('11', 20), 'hex'), 5, 5, sha256(''), 5, {dora}, {dora_joined})",
        "is of a group without a vault",
    ),
    "payout-of-another-amount": (
        "update ledger.payouts set amount = amount + 1 where group_id = {open}",
        "and the exit or its settlement is another one",
    ),
    "payout-to-another": (
        "update ledger.payouts set owner = decode(repeat('11', 20), 'hex') where group_id = {open}",
        "and the exit or its settlement is another one",
    ),
    "payout-of-another-transaction": (
        "update ledger.payouts set transaction = sha256('') where group_id = {open} and amount > 0",
        "and the exit or its settlement is another one",
    ),
    "not-settled": (
        "update ledger.settlements set reference = null, settled_at = null, settled_xid = null where group_id = {open}",
        "and the exit or its settlement is another one",
    ),
    "settled-by-hand": (
        "delete from ledger.payouts where group_id = {open}",
        "the exit is settled, and the vault did not pay it",
    ),
    "paid-without-an-emergency": (
        "update ledger.payouts set group_id = {open} where group_id = {frozen} and kind = 'present'",
        "was paid without an emergency, or to another participant",
    ),
    "present-of-another": (
        "update ledger.payouts set participant_id = {alice} + 1 where group_id = {frozen} and kind = 'present'",
        "was paid without an emergency, or to another participant",
    ),
    "no-leaf": (
        "update ledger.payouts set amount = amount + 1 where group_id = {frozen} and kind = 'present'",
        "is no leaf of the checkpoint that the emergency pays",
    ),
    "no-leaf-without-a-checkpoint": (
        "update ledger.vaults set emergency_number = 0 where group_id = {frozen}",
        "is no leaf of the checkpoint that the emergency pays",
    ),
    "included-and-returned": (
        "update ledger.payouts set subject = 0 where group_id = {frozen} and kind = 'reclaim'",
        "deposit 0 was returned, and was included or is another one",
    ),
    "returned-to-another": (
        "update ledger.payouts set owner = decode(repeat('11', 20), 'hex')"
        " where group_id = {frozen} and kind = 'reclaim'",
        "deposit 2 was returned, and was included or is another one",
    ),
    "paid-without-a-transaction": (
        "update ledger.payouts set transaction = null, block = null, log = null where group_id = {frozen}",
        "it has an amount of",
    ),
    "log-twice": (
        "drop index ledger.payouts_of_a_log;"
        "update ledger.payouts set transaction = sha256(''), log = 0 where log is not null",
        "it has an amount of",
    ),
    "of-another-vault": (
        "update ledger.checkpoints set chain_id = chain_id + 1 where group_id = {open}",
        "is of another vault than the group",
    ),
    "with-a-vault-in-a-group-without": (
        "update ledger.checkpoints set chain_id = 1 where group_id = {none}",
        "is of another vault than the group",
    ),
    "not-prepared": (
        "delete from ledger.publications where group_id = {open} and number = 1",
        "was not prepared for the vault of the group",
    ),
    "prepared-without-a-vault": (
        "insert into ledger.publications (group_id, number) values ({none}, 1)",
        "was prepared for a vault, and the group has none",
    ),
    "not-closed": (
        "update ledger.publications set state = 'accepted' where group_id = {open} and number = 1",
        "is accepted, and a later one was made",
    ),
    "accepted-without-a-transaction": (
        "update ledger.publications set published_transaction = null, published_block = null where group_id = {open}",
        "without the transaction that made it so, or with one that did not",
    ),
    "vetoed-without-a-transaction": (
        "update ledger.publications set ended_transaction = null where state = 'vetoed'",
        "without the transaction that made it so, or with one that did not",
    ),
    "unknown-state": (
        "update ledger.publications set state = 'lost' where group_id = {open}",
        "without the transaction that made it so, or with one that did not",
    ),
    "publication-time": (
        "update ledger.publications set changed_at = prepared_at - interval '1 s' where group_id = {open}",
        "was prepared at",
    ),
    "adopted-by-nobody": (
        "update ledger.checkpoints set adopted_at = now() where group_id = {open} and number = 1",
        "was adopted, and no adoption is recorded",
    ),
    "chained-to-a-vetoed-one": (
        "update ledger.publications set state = 'closed', published_transaction = ended_transaction,"
        " published_block = ended_block where state = 'vetoed'",
        "has another header before it than it names",
    ),
    "figures": (
        "update ledger.checkpoints set deposits = deposits + 1 where group_id = {open} and number = 1",
        "has another header than its figures make",
    ),
    "total": (
        "update ledger.checkpoints set total = total + 1 where group_id = {open} and number = 1",
        "has a total of",
    ),
    "gap": (
        "delete from ledger.checkpoints where group_id = {frozen} and number = 1;"
        "delete from ledger.publications where group_id = {frozen} and number = 1",
        "has none before it",
    ),
    "deposits-of-the-record": (
        "delete from ledger.vault_deposits where group_id = {open} and deposit_index = 0",
        "joins and deposits of",
    ),
    "orphans": (
        "delete from ledger.groups where id = {open}",
        "payouts: 2, publications: 2, settlements: 2, shards: 8, totals: 5, vault deposits: 2, vaults: 1",
    ),
}


@pytest.fixture(scope="module")
def connection(server: Server, template: object) -> Iterator[psycopg.Connection]:
    with janitor(server, "ledger_vaults", template.template_dbname):
        database = server.database("ledger_vaults")
        with database.connect(database.admin, autocommit=False) as connection:
            yield connection


@pytest.fixture(scope="module")
def books(server: Server, connection: psycopg.Connection) -> dict[str, int]:
    """A group without a vault, one that is frozen, one that goes on."""
    database: Database = server.database("ledger_vaults")
    with database.connect() as ledger, database.connect("ledger_test_bridge") as session:
        groups = [create(ledger, name) for name in ("none", "frozen", "open")]
        dora, joined = one(ledger, "select id, entry_id from ledger.join_group(%s, 'dora', 5)", [groups[0]])
        ledger.execute("select ledger.checkpoint(%s)", [groups[0]])
        bridges = [Bridge(session, group) for group in groups[1:]]
        for bridge in bridges:
            bridge.call("link_vault", CHAIN, VAULT)
            bridge.transactions = 100 * bridge.group
            bridge.call("record_progress", 5, chain_hash(5))
        people = [
            [bridge.deposit(owner, n)["participant_id"] for owner, n in ((ALICE, 100), (BOB, 50))] for bridge in bridges
        ]
        for bridge, (alice, bob) in zip(bridges, people, strict=True):
            query = "select id from ledger.join_group(%s, 'mallory', 0, address => %s)"
            (mallory,) = one(ledger, query, [bridge.group, ALICE])
            ledger.execute("select ledger.exit_group(%s, %s)", [bridge.group, mallory])
            bridge.call("exit_requested", bob, BOB, *bridge.mined())
            made = bridge.publish()
            if bridge is bridges[0]:
                bridge.call("record_publication", made["number"], "closed", None, None)
                vetoed = bridge.call("prepare_publication")["number"]
                bridge.call("record_publication", vetoed, "vetoed", *bridge.mined())
                (mallory,) = one(ledger, query, [bridge.group, ALICE])
                made = bridge.publish()
                bridge.deposit(CAROL, 7)
                bridge.freeze(made["number"])
                (leaf,) = (
                    leaf for leaf in bridge.rows("list_leaves", made["number"]) if leaf["participant_id"] == alice
                )
                bridge.pay(leaf)
                bridge.call("reclaim_deposit", 2, CAROL, 7, *bridge.mined())
            else:
                bridge.close(made["number"])
                bridge.call("record_unknown_root", 4, chain_hash(4), *bridge.mined())
                bridge.publish()
            for nonce in (0, 1):
                query = "select ledger.record_transaction(%s, %s, %s, %s, 'publish', 1, '0xab')"
                session.execute(query, [CHAIN, (ALICE, BOB)[bridge is bridges[0]], nonce, bridge.group])
        query = "select ledger.finish_transaction(%s, %s, 0, %s, 5, true)"
        session.execute(query, [CHAIN, ALICE, chain_hash(1)])
    names = {"none": groups[0], "frozen": groups[1], "open": groups[2]}
    return names | {"dora": dora, "dora_joined": joined, "alice": people[0][0], "bob": people[0][1]}


def found(connection: psycopg.Connection) -> list[tuple]:
    return connection.execute("select * from ledger.verify()").fetchall()


def test_sound_books_have_no_discrepancy(connection, books):
    assert found(connection) == []
    for group in (books["none"], books["frozen"], books["open"]):
        assert connection.execute("select * from ledger.verify(%s)", [group]).fetchall() == []


def test_each_corruption_is_found(connection, books):
    seen = []
    with connection.transaction(force_rollback=True):
        connection.execute(WITHOUT_RULES)
        assert found(connection) == []
        for name, (statement, detail) in CASES.items():
            with connection.transaction(force_rollback=True):
                connection.execute(statement.format(**books))
                details = [row[4] for row in found(connection)]
                assert any(detail in line for line in details), (name, details)
                seen += details
    # And the functions name no other one.
    for text in TEXTS.values():
        for part in re.findall(r"'([^']*)'", COMMENTS.sub("", text)):
            if " " in part and part not in OTHERS:
                pattern = re.escape(part).replace("%s", ".*")
                assert any(re.search(pattern, line) for line in seen), part


def test_a_trigger_that_is_missing_is_found(connection, books):
    for table in (
        *("vaults", "vault_deposits", "payouts", "publications", "exit_requests", "bridge_transactions", "adoptions"),
        "unknown_roots",
    ):
        with connection.transaction(force_rollback=True):
            (name,) = one(
                connection,
                """
                select min(tgname) from pg_trigger
                where tgrelid = %s::regclass and not tgisinternal and tgtype & 42 = 42
                """,
                [f"ledger.{table}"],
            )
            connection.execute(f"drop trigger {name} on ledger.{table}")
            assert (None, None, None, "schema", f"table {table} can be rewritten: no trigger refuses it") in found(
                connection
            )
