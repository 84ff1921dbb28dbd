"""A replica for reads, and its promotion."""

from __future__ import annotations

import psycopg
import pytest

from tests.operations.guide import Site, answer, block, served
from tests.support import discrepancies, one, transfer, until


@pytest.fixture
def replica(site: Site) -> Site:
    """The site with a replica that runs."""
    site.paste(block("sh", "create role replicator"), server_user=True)
    site.prepare("replica")
    site.paste(block("sh", "pg_basebackup -h"), "replica", server_user=True)
    return site


def replayed(primary: psycopg.Connection) -> bool:
    """Return whether the replica has replayed everything that the primary has written by now."""
    written = "select replay_lsn >= pg_current_wal_lsn() from pg_stat_replication"
    return primary.execute(written).fetchall() == [(True,)]


def test_a_replica_answers_reads_only(replica: Site) -> None:
    line = block("sh", "@replica.example/ledger ledger serve")
    with replica.connect("db") as primary, served(replica, line, "replica", "--insecure") as service:
        paid = transfer(primary, 1, 1, 2, 20)
        until(lambda: replayed(primary), "the replica")
        assert service.answers()
        assert answer(service, "GET", "/api/groups/1/total") == {"group_total": 200}
        read = [participant["amount"] for participant in answer(service, "GET", "/api/groups/1/participants")]
        assert read == [50, 150]
        assert answer(service, "GET", f"/api/groups/1/entries/{paid}")["amount"] == 20
        assert [entry["id"] for entry in answer(service, "GET", "/api/entries")] == [1, 2, 3, paid]
        body = {"from": 1, "to": 2, "amount": 1}
        for method, path, given in (
            ("POST", "/api/groups/1/transfer", body),
            ("POST", "/api/groups/1/transfers", {"transfers": [body]}),
            ("POST", "/api/groups", {"name": "BTC"}),
            ("PATCH", "/api/groups/1", {"name": "BTC"}),
            ("DELETE", "/api/groups/1/participants/1", None),
        ):
            status, problem = service.ask(method, path, given)
            assert (status, problem["code"]) == (503, "unavailable")
        (lag,) = replica.psql(block("sql", "as bytes, replay_lag"), "db", "postgres", "ledger")
        assert lag.startswith("walreceiver|streaming|async|0|")
        (behind,) = replica.psql(block("sql", "replay_timestamp"), "replica", "postgres", "ledger")
        assert behind


def test_api_keys_are_valid_on_the_replica(replica: Site) -> None:
    secret = replica.paste("ledger key create reader --scope read", LEDGER_ADMIN_URL=replica.url("db", "ledger_admin"))
    with replica.connect("db") as primary:
        until(lambda: replayed(primary), "the replica")
    with served(replica, block("sh", "@replica.example/ledger ledger serve"), "replica") as service:
        assert service.ask("GET", "/api/groups")[0] == 401
        assert service.ask("GET", "/api/groups", Authorization=f"Bearer {secret.strip()}")[0] == 200


def test_a_promoted_replica_works(replica: Site) -> None:
    with replica.connect("db") as primary:
        until(lambda: replayed(primary), "the replica")
    replica.stop("db", "immediate")
    assert replica.paste(block("sh", "pg_promote"), "replica", server_user=True).split()[2] == "t"
    verified = replica.paste(block("sh", "@replica.example/ledger\nledger verify"), "replica")
    assert verified.startswith("0 discrepancies in 1 group (entries: 3, ")
    with replica.connect("replica") as admin:
        assert one(admin, "select count(*) from ledger.feeds where generation > 1") == (2,)  # before and after
        transfer(admin, 1, 1, 2, 10)
        assert discrepancies(admin) == []
