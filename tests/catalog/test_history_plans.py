"""Reading history stays cheap as it grows: every page reads as much as the first, from the ranges of an index."""

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from pytest_postgresql.executors import NoopExecutor

from api.postgres import embedded
from tests.conftest import Server, janitor
from tests.support import one

ROWS = 10
CALLS = 7  # in a session, of which the first fills caches and the last may run a plan made for any values

# Two groups side by side. In each there are alice, who takes part in every second transfer, 19 others, one without
# transfers, 1,500 guests who joined and left, half of their exits settled, and twenty transfers of one time.
FILL = """
-- The feed of a ledger that was made by an earlier release: it has number 1, and every transaction.
set session_replication_role = replica;
delete from ledger.feeds;
insert into ledger.feeds (generation, system_identifier, last_restored, first_xid)
select 1, c.system_identifier, 0, '0' from pg_control_system() as c;
reset session_replication_role;

create temporary table steps as
select
  g as group_id,
  r as round,
  (2 * r + g) * 30 as id,
  100 * g as alice,
  1000 + 2 * r + g as guest,
  date_trunc('day', now()) - interval '3 days' + r * interval '1 minute' as time,
  (10 + r)::text::xid8 as xid
from generate_series(1, 2) as g
cross join generate_series(1, 1500) as r;

insert into ledger.groups (name, created_at)
select 'group ' || g, now() - interval '4 days'
from generate_series(1, 2) as g;

insert into ledger.group_total_shards (group_id, slot)
select g, s
from generate_series(1, 2) as g, generate_series(0, 7) as s;

insert into ledger.participants (group_id, id, username, amount)
overriding system value
select g, 100 * g + n, 'participant ' || n, 1000
from generate_series(1, 2) as g, generate_series(0, 20) as n;
insert into ledger.participants (group_id, id, username, amount, exited_at)
overriding system value
select group_id, guest, 'guest', 0, time
from steps;

insert into ledger.entries (group_id, id, kind, to_id, amount, to_amount, created_at, xid)
overriding system value
select g, 20 * (g - 1) + n + 1, 'join', 100 * g + n, 1000, 1000, now() - interval '4 days', '9'
from generate_series(1, 2) as g, generate_series(0, 20) as n;
insert into ledger.entries (
  group_id, id, kind, from_id, to_id, amount, from_amount, to_amount, created_at, metadata, xid
)
overriding system value
select
  group_id,
  id + e.n,
  e.kind,
  case e.kind
    when 'exit' then guest
    when 'transfer' then alice + case when n % 4 = 0 then 0 else 2 + n % 9 end
  end,
  case e.kind
    when 'join' then guest
    when 'deposit' then alice
    when 'transfer' then alice + case when n % 4 = 2 then 0 else 11 + n % 9 end
  end,
  5,
  case when e.kind not in ('join', 'deposit') then 0 end,
  case when e.kind <> 'exit' then 5 end,
  time + case when n > 20 then n * interval '1 second' else interval '0' end,
  case when n = 10 then jsonb_build_object('round', round) end,
  xid
from steps
cross join (
  select n, case n when 21 then 'join' when 22 then 'exit' when 23 then 'deposit' else 'transfer' end as kind
  from generate_series(1, 23) as n
) as e
order by id, n;

insert into ledger.group_total_history (group_id, slot, created_at, entry_id, total, participant_id)
select group_id, round % 8, time + n * interval '1 second', id + n, 5 * (22 - n), case n when 23 then alice end
from steps
cross join (values (21), (22), (23)) as e (n);

insert into ledger.settlements (group_id, entry_id, exited_at, reference, settled_at)
select
  group_id,
  id + 22,
  time + interval '22 seconds',
  case when round % 2 = 0 then 'paid' end,
  case when round % 2 = 0 then now() end
from steps;
"""
# The rounds have transactions of their own, all of which must have ended.
NUMBERS = """
do $$
begin
  for n in 1..2000 loop
    perform pg_current_xact_id();
    commit;
  end loop;
end
$$
"""

READ = """
select relname, coalesce(indexrelname, ''), tuples
from (
  select relname, null, seq_tup_read from pg_stat_user_tables where schemaname = 'ledger'
  union all
  select relname, indexrelname, idx_tup_read from pg_stat_user_indexes where schemaname = 'ledger'
) as r (relname, indexrelname, tuples)
"""

LARGE = {"participants", "entries", "group_total_history", "settlements"}


@dataclass(frozen=True)
class Place:
    """A place in the history of the first group: an entry, its time, and its cursor in the feed."""

    entry: int
    time: str
    cursor: str


@dataclass(frozen=True)
class Cost:
    """The cost of one call: rows returned, pages at most, and rows through each index, or none in sequence."""

    rows: int
    pages: int
    through: dict[str, int]


@dataclass(frozen=True)
class History:
    admin: psycopg.Connection
    group: int
    alice: int
    idle: int
    places: list[Place]

    def counts(self) -> dict[tuple[str, str], int]:
        self.admin.execute("select pg_stat_force_next_flush()")
        return {(table, index): tuples for table, index, tuples in self.admin.execute(READ)}

    def pages(self, query: str) -> int:
        ((plan,),) = one(self.admin, "explain (analyze, buffers, format json) " + query)
        return plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]

    def cost(self, query: str, place: Place) -> Cost:
        schema = "" if query.startswith("ledger_internal.") else "ledger."
        query = f"select * from {schema}{query}".format(
            group=self.group,
            alice=self.alice,
            idle=self.idle,
            rows=ROWS,
            **vars(place),
        )
        rows = len(self.admin.execute(query).fetchall())
        before = self.counts()
        pages = max(self.pages(query) for _ in range(CALLS))
        after = self.counts()
        read = {key: (after[key] - before[key]) / CALLS for key in after if after[key] > before[key]}
        in_sequence = {table for table, index in read if not index} & LARGE
        assert in_sequence == set(), f"{query} reads {in_sequence} in sequence"
        return Cost(rows, pages, {index: tuples for (_, index), tuples in read.items() if index})


@pytest.fixture(scope="module", params=["known", "unknown"])
def history(request: pytest.FixtureRequest, server: Server, template: NoopExecutor) -> Iterator[History]:
    """30,000 entries and more in each of two groups, with statistics for the planner and without."""
    with (
        janitor(server, "ledger_history", template.template_dbname),
        server.database("ledger_history").connect(embedded.ADMIN) as admin,
    ):
        for table in LARGE:
            admin.execute(f"alter table ledger.{table} set (autovacuum_enabled = off)")
        admin.execute(NUMBERS)
        # No rule is tested here, so no trigger need look.
        admin.execute("set session_replication_role = replica")
        admin.execute(FILL)
        admin.execute("reset session_replication_role")
        if request.param == "known":
            admin.execute("vacuum analyze " + ", ".join(f"ledger.{table}" for table in LARGE))
        (entries,) = one(admin, "select count(*) from ledger.entries where group_id = 1")
        assert entries > 30000
        places = [
            Place(
                *one(
                    admin,
                    "select id, created_at::text, format('1-%%s-%%s', xid, id) from ledger.entries "
                    "where group_id = 1 order by created_at, id offset %s limit 1",
                    [offset],
                )
            )
            for offset in (1000, entries // 2, entries - 1000)
        ]
        yield History(admin, 1, 100, 101, places)


OF_A_GROUP = {"entries_transfers_by_time", "entries_others_by_kind"}
PAGES = {
    "list_entries({group}, max_rows => {rows})": OF_A_GROUP,
    "list_entries({group}, max_rows => {rows}, after => {entry})": OF_A_GROUP,
    "list_entries({group}, max_rows => {rows}, before => {entry})": OF_A_GROUP,
    "list_entries({group}, max_rows => {rows}, before => {entry}, newest_first => true)": OF_A_GROUP,
    "list_entries({group}, max_rows => {rows}, after => {entry}, newest_first => true)": OF_A_GROUP,
    "list_entries({group}, max_rows => {rows}, since => '{time}')": OF_A_GROUP,
    "list_entries({group}, max_rows => {rows}, until => '{time}')": OF_A_GROUP,
    "list_entries({group}, max_rows => {rows}, until => '{time}', newest_first => true)": OF_A_GROUP,
    "list_entries({group}, 'join', max_rows => {rows}, before => {entry}, newest_first => true)": {
        "entries_others_by_kind"
    },
    "list_entries({group}, 'transfer', max_rows => {rows}, after => {entry})": {"entries_transfers_by_time"},
    "list_entries({group}, 'deposit', max_rows => {rows}, until => '{time}')": {"entries_others_by_kind"},
    "list_entries({group}, 'exit', max_rows => {rows}, since => '{time}')": {"entries_others_by_kind"},
    "list_entries({group}, settled => false, max_rows => {rows})": {"settlements_to_make"},
    "list_entries({group}, settled => false, max_rows => {rows}, before => {entry}, newest_first => true)": {
        "settlements_to_make"
    },
    "list_entries({group}, settled => true, max_rows => {rows}, until => '{time}', newest_first => true)": {
        "settlements_made"
    },
    "list_participant_entries({group}, {alice}, max_rows => {rows})": {"entries_by_sender", "entries_by_recipient"},
    "list_participant_entries({group}, {alice}, max_rows => {rows}, after => {entry})": {
        "entries_by_sender",
        "entries_by_recipient",
    },
    "list_participant_entries({group}, {alice}, max_rows => {rows}, before => {entry}, newest_first => true)": {
        "entries_by_sender",
        "entries_by_recipient",
    },
    "list_participant_entries({group}, {alice}, 'transfer', max_rows => {rows}, since => '{time}')": {
        "entries_by_sender",
        "entries_by_recipient",
    },
    "list_participant_entries({group}, {alice}, 'deposit', max_rows => {rows}, since => '{time}')": {
        "group_total_history_of_deposits"
    },
    "list_participant_entries({group}, {alice}, 'deposit', max_rows => {rows}, before => {entry})": {
        "group_total_history_of_deposits"
    },
    "read_feed(null, {rows})": {"entries_as_committed"},
    "read_feed('{cursor}', {rows})": {"entries_as_committed"},
}
# A page looks at so many rows of the indexes that it is read through: a page's worth for each kind or side, and the
# ends of a participant's history.
MOST_ROWS = 4 * ROWS + 4
# A look-up of each entry by its number, of its reversal and of its settlement, beside the ranges.
MOST_PAGES = 20 * ROWS


@pytest.mark.parametrize("query", PAGES)
def test_a_page_costs_the_same_everywhere(history, query):
    costs = [history.cost(query, place) for place in history.places]
    for cost in costs:
        assert cost.rows == ROWS
        assert sum(cost.through[index] for index in PAGES[query]) <= MOST_ROWS, cost
        assert sum(cost.through.values()) <= MOST_ROWS + 4 * ROWS + 2, cost
    pages = [cost.pages for cost in costs]
    assert max(pages) <= MOST_PAGES
    assert max(pages) <= min(pages) + 3 * ROWS, pages


@pytest.mark.parametrize("cursor", ["null", "'{cursor}'"])
def test_a_page_of_a_restored_feed_costs_the_same_everywhere(history, cursor):
    with history.admin.transaction(force_rollback=True):
        (generation,) = one(history.admin, "select ledger.restart_feed()")
        for place in history.places:
            now = cursor.format(cursor=f"{generation}-{place.cursor.partition('-')[2]}")
            query = f"select * from ledger.read_feed({now}, {ROWS})"
            assert len(history.admin.execute(query).fetchall()) == ROWS
            assert max(history.pages(query) for _ in range(CALLS)) <= MOST_PAGES


@pytest.mark.parametrize("kind", ["exit", "join"])
def test_looking_for_the_ends_of_a_participants_history_reads_no_transfer(history, kind):
    for place in history.places:
        query = f"list_participant_entries({{group}}, {{alice}}, '{kind}', before => {{entry}})"
        cost = history.cost(query, place)
        assert cost.rows == (kind == "join")
        assert sum(cost.through.values()) <= 8, cost


@pytest.mark.parametrize(
    "chosen", ["", ", after => {entry}", ", since => '{time}'", ", since => '{time}', until => 'infinity'"]
)
def test_a_page_of_a_statement_costs_the_same_everywhere(history, chosen):
    """As a page of entries does, one more to see whether there is another page, the counterparties and two balances."""
    costs = [
        history.cost(f"get_statement({{group}}, {{alice}}, max_rows => {ROWS}{chosen})", place)
        for place in history.places
    ]
    for cost in costs:
        assert cost.rows == 1
        ends = 4
        read = cost.through["entries_by_sender"] + cost.through["entries_by_recipient"]
        assert 0 < read <= 4 * (ROWS + 1) + 4 + ends, cost
        assert sum(cost.through.values()) <= read + 4 * (ROWS + 1) + 4, cost
    pages = [cost.pages for cost in costs]
    assert max(pages) <= MOST_PAGES
    assert max(pages) <= min(pages) + 3 * ROWS, pages


MOMENTS = {
    "get_participant({group}, {alice}, at_time => '{time}')": {"entries_by_sender": 1, "entries_by_recipient": 1},
    "get_participant({group}, {alice}, at_entry => {entry})": {"entries_by_sender": 1, "entries_by_recipient": 1},
    "get_participant({group}, {idle}, at_entry => {entry})": {"entries_by_recipient": 1},
    "group_total({group}, at_time => '{time}')": {"group_total_history_pkey": 8},
    "group_total({group}, at_entry => {entry})": {"group_total_history_pkey": 8},
}


@pytest.mark.parametrize("query", MOMENTS)
def test_a_past_moment_is_looked_up(history, query):
    costs = [history.cost(query, place) for place in history.places]
    for cost in costs:
        assert cost.rows == 1
        for index, most in MOMENTS[query].items():
            assert 0 < cost.through[index] <= most, cost
        assert sum(cost.through.values()) <= sum(MOMENTS[query].values()) + 3, cost
        assert cost.pages <= 60, cost


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("list_entries({group}, metadata => '{{\"round\": 300}}')", 1),
        ("list_entries({group}, 'transfer', metadata => '{{\"round\": 300}}', newest_first => true)", 1),
        ("list_entries({group}, metadata => '{{\"round\": 1501}}')", 0),
        ("list_participant_entries({group}, {alice}, metadata => '{{\"round\": 300}}')", 1),
        ("list_participant_entries({group}, {idle}, metadata => '{{\"round\": 300}}')", 0),
    ],
)
def test_metadata_are_found_through_their_index(history, query, rows):
    cost = history.cost(query, history.places[0])
    assert cost.rows == rows
    # The other group has one, too.
    assert cost.through.get("entries_by_group_and_metadata", 0) == (0 if "1501" in query else 1), cost
    assert not cost.through.keys() & {*OF_A_GROUP, "entries_by_sender", "entries_by_recipient"}
    assert cost.pages <= 60, cost


NOTED = [
    ("list_entries({group}, metadata => '{{\"round\": 300}}')", 1),
    ("list_entries({group}, metadata => '{{\"round\": 1501}}')", 0),
    ('list_entries({group}, metadata => \'{{"round": 300, "more": {{}}}}\')', 0),
    ("list_participant_entries({group}, {alice}, metadata => '{{\"round\": 300}}')", 1),
    # Filters that an index on values does not support.
    ("list_entries({group}, metadata => '{{}}', max_rows => 5)", 5),
    ("list_entries({group}, metadata => '{{\"round\": {{}}}}')", 0),
    ("list_entries({group}, metadata => '{{\"list\": []}}')", 0),
    ("list_participant_entries({group}, {idle}, metadata => '{{}}')", 0),
]


def test_a_filter_on_metadata_reads_nothing_of_other_groups(history):
    """100,000 entries of another group that fit every filter cost as much as none."""
    before = {query: history.cost(query, history.places[0]) for query, _ in NOTED}
    with history.admin.transaction(force_rollback=True):
        history.admin.execute(
            """
            insert into ledger.entries (group_id, id, kind, to_id, amount, to_amount, metadata)
            overriding system value
            select 2, 1000000 + n, 'join', 200, 5, 5, case
              when n % 2 = 0 then '{"round": 300, "more": {}, "list": []}'
              else ('{"round": {}, "number": ' || n || '}')::jsonb
            end
            from generate_series(1, 100000) as n
            """
        )
        for query, rows in NOTED:
            spelled = "select * from ledger." + query.format(
                group=history.group, alice=history.alice, idle=history.idle
            )
            assert before[query].rows == rows
            assert len(history.admin.execute(spelled).fetchall()) == rows
            # The trees of the indexes have grown by a level.
            most = before[query].pages + 20 + 5 * rows
            assert max(history.pages(spelled) for _ in range(CALLS)) <= most, query


def test_one_entry_is_looked_up(history):
    for place in history.places:
        cost = history.cost("get_entry({group}, {entry})", place)
        assert cost.rows == 1
        assert cost.pages <= 20, cost


def test_verifying_idempotency_keys_looks_up_their_entries_only(history: History):
    history.admin.execute(
        """
        insert into ledger.idempotency_keys (group_id, key, operation, fingerprint, answer)
        select
          e.group_id,
          'key ' || e.id,
          'transfer',
          ledger_internal.fingerprint(ledger_internal.transfer_request(e.from_id, e.to_id, e.amount, e.metadata)),
          to_json((
            ('x', e.to_id, e.group_id, e.to_amount)::ledger.current_participants,
            ('y', e.from_id, e.group_id, e.from_amount)::ledger.current_participants,
            e.id,
            false
          )::ledger.transfer_result)
        from (select * from ledger.entries where group_id = %s and kind = 'transfer' order by id limit 50) as e
        on conflict do nothing
        """,
        [history.group],
    )
    cost = history.cost("ledger_internal.verify_keys({group}, '', 'l')", history.places[0])
    assert cost.rows == 0
    assert cost.through.get("entries_pkey", 0) <= 50
    assert not {index for index in cost.through if index.startswith("entries_")} - {"entries_pkey"}
