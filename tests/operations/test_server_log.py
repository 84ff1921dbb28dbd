"""PostgreSQL's log holds no name and no balance of refusals and calls, once the guide was followed."""

from __future__ import annotations

import psycopg
import pytest

from api.postgres.preflight import check_at_start
from tests.operations.guide import Site, block
from tests.support import one, until

REFUSED = ("select * from ledger.transfer(%s, %s, %s, %s)", (1, 1, 2, 987_654_321))
TAKEN = ("select * from ledger.join_group(%s, %s, %s)", (1, "alice", 5))
DONE = ("select * from ledger.transfer(%s, %s, %s, %s)", (1, 2, 1, 13))


def logged(site: Site) -> str:
    """Return the server's log of two refusals, a transfer, and the end of a later session."""
    log = site.folder / "db" / "log" / "ledger.log"
    size = log.stat().st_size
    with site.connect("db", "ledger_service") as service:
        # As the service sends them, with values beside the statement.
        for query, values in (REFUSED, TAKEN):
            with pytest.raises(psycopg.DatabaseError):
                service.execute(query, values, prepare=True)
        service.execute(*DONE, prepare=True)
        pid = service.info.backend_pid

    def said() -> str:
        return log.read_bytes()[size:].decode()

    until(lambda: f"[{pid}] LOG:  disconnection" in said(), "the session's end to be logged")
    return said()


def test_refusals_stay_out_of_the_servers_log(site: Site) -> None:
    with site.connect("db") as superuser:
        for setting in (
            "log_disconnections = on",
            "log_min_duration_statement = 0",
            "log_line_prefix = '[%p] '",
        ):
            superuser.execute(f"alter system set {setting}")
        superuser.execute("select pg_reload_conf()")
        until(lambda: one(superuser, "show log_line_prefix") == ("[%p] ",), "the settings to be read")
    before = logged(site)
    assert "has 70, cannot send" in before
    assert "987654321" in before
    assert "alice" in before

    site.psql(block("sql", "log_min_messages"), "db", "postgres", "ledger")
    after = logged(site)
    assert "ERROR" not in after
    # Slow statements are logged, without their values.
    assert "ledger.transfer($1, $2, $3, $4)" in after
    assert not any(value in after for value in ("987654321", "alice", "= '13'", "parameters"))
    # And the service starts: these are no settings that its login could have made.
    assert check_at_start(site.url("db", "ledger_service"), any_login=False)
