"""Roles on a managed PostgreSQL, where the administrator is no superuser."""

from __future__ import annotations

import re

from tests.operations.guide import Site, block, served
from tests.running.commands import refusal
from tests.support import one, until

WHAT_IS_GRANTED = """
select
  array(select rolname::text from pg_roles where rolsuper),
  (select rolconnlimit from pg_roles where rolname = 'ledger_service'),
  (select rolconfig from pg_roles where rolname = 'ledger_service'),
  (select pg_get_userbyid(datdba) from pg_database where datname = 'ledger'),
  (select array_agg(distinct a.privilege_type order by a.privilege_type)
    from pg_database, aclexplode(datacl) as a where datname = 'ledger' and a.grantee = 0)
"""


def test_the_roles_are_made_without_a_superuser(managed: Site) -> None:
    with managed.connect("db") as admin:
        superusers, limit, settings, owner, public = one(admin, WHAT_IS_GRANTED)
    assert superusers == ["postgres"]
    assert limit == 40
    assert settings == ["statement_timeout=10s", "lock_timeout=5s", "idle_in_transaction_session_timeout=10s"]
    assert owner == "ledger_admin"
    assert public is None


def test_the_service_starts_once_there_is_an_api_key(site: Site) -> None:
    make, serve = block("sh", "first administrator").splitlines(keepends=True)
    url = site.url("db", "ledger_service")
    assert "there is no API key" in refusal("serve", DATABASE_URL=url)
    secret = site.paste(make, LEDGER_ADMIN_URL=site.url("db", "ledger_admin"))
    assert re.fullmatch(r"ledger_1_[0-9a-f]{64}\n", secret)
    with served(site, serve, "db") as service, site.connect("db") as admin:
        assert service.answers()
        assert service.ask("GET", "/api/groups")[0] == 401
        assert len(service.workers) == 2
        # Each worker's own, and one for the health check of the worker that answered.
        held = "select count(*) from pg_stat_activity where usename = 'ledger_service'"
        until(lambda: one(admin, held)[0] == 2 * 16 + 1, "all connections")
