"""PgBouncer: sessions can be pooled, transactions cannot."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from api.postgres import embedded
from tests.operations.guide import Site, answer, block, served
from tests.running.commands import Service, free_port
from tests.support import discrepancies, one, until

PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="needs PgBouncer: apt-get install pgbouncer")


def prepares() -> bool:
    """Whether this PgBouncer knows of prepared statements when it pools transactions."""
    printed = subprocess.run([PGBOUNCER or "", "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"(\d+)\.(\d+)", printed)
    assert version
    return (int(version[1]), int(version[2])) >= (1, 21)


@contextmanager
def pooled(site: Site, mode: str = "session", connections: int = 40) -> Iterator[int]:
    """PgBouncer as the guide has it, on a port; it pools transactions where the guide says not to."""
    folder, port = site.folder / "bouncer", free_port()
    site.run("install", "-d", "-m", "0700", folder)
    site.paste(block("sh", "users.txt"), server_user=True, folders={"/etc/pgbouncer": folder})
    settings = site.substituted(block("ini", "[pgbouncer]"), "db", {"/etc/pgbouncer": folder}).replace(
        "6432", str(port)
    )
    settings = settings.replace("pool_mode = session", f"pool_mode = {mode}").replace("= 40", f"= {connections}")
    (folder / "pgbouncer.ini").write_text(settings)
    account = embedded._account(embedded._ACCOUNT)
    user = (account.pw_uid, account.pw_gid) if os.geteuid() == 0 else (None, None)
    if os.geteuid() == 0:
        os.chown(folder / "pgbouncer.ini", *user)
    with (folder / "log").open("w") as log:
        command = [PGBOUNCER or "", folder / "pgbouncer.ini"]
        groups = [] if os.geteuid() == 0 else None
        process = subprocess.Popen(command, stderr=log, user=user[0], group=user[1], extra_groups=groups)
    try:
        until(lambda: "process up" in (folder / "log").read_text() or process.poll() is not None, "PgBouncer")
        assert process.poll() is None, (folder / "log").read_text()
        yield port
    finally:
        process.terminate()
        process.wait(30)


def test_sessions_can_be_pooled(site: Site) -> None:
    with pooled(site) as port:
        line = block("sh", "127.0.0.1:6432").replace("6432", str(port))
        with served(site, line, "db", "--insecure") as service:

            def use(service: Service) -> list[int]:
                move = {"from": 1, "to": 2, "amount": 1}
                asked = [
                    service.ask("POST", "/api/groups/1/transfer", move),
                    service.ask("GET", "/api/groups/1/participants/1"),
                    service.ask("GET", "/api/groups/1/participants"),
                    service.ask("POST", "/api/groups/1/transfers", {"transfers": [move]}),
                    service.ask("GET", "/api/health"),
                ]
                return [status for status, _ in asked]

            with ThreadPoolExecutor(8) as pool:
                statuses = Counter(status for answers in pool.map(use, [service] * 16) for status in answers)
            assert statuses == {200: 80}
            assert answer(service, "GET", "/api/groups/1/participants/1")["amount"] == 70 - 32
            with site.connect("db") as admin:
                assert discrepancies(admin) == []
                held = "select count(*) from pg_stat_activity where usename = 'ledger_service'"
                assert 2 * 16 < one(admin, held)[0] <= 2 * 17


def test_transactions_cannot_be_pooled(site: Site) -> None:
    if prepares():
        pytest.skip("this PgBouncer knows of prepared statements, and Debian 12's does not")
    with pooled(site, "transaction", connections=2) as port:
        url = f"postgresql://ledger_service:password@127.0.0.1:{port}/ledger"
        with psycopg.connect(url, autocommit=True) as alice, psycopg.connect(url, autocommit=True) as bob:
            mine = {alice: "select 'what alice asks for'", bob: "select 'what bob asks for'"}
            got = []
            # Both at the same time, so that each has one of the two connections.
            for first, second in ((alice, bob), (alice, bob), (bob, alice)):
                with first.transaction(), second.transaction():
                    for client in (first, second):
                        (value,) = client.execute(mine[client], prepare=True).fetchone() or ("",)
                        got.append(value in mine[client])
            # Both named their statements alike, so each got the other's row.
            assert got[:2] == [True, True]
            assert not all(got)

            alice.execute("select set_config('lock_timeout', '123ms', false)")
            strayed = [bob.execute("select current_setting('lock_timeout')").fetchone() for _ in range(2)]
            assert ("123ms",) in strayed
