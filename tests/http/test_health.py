"""The health check shows the database's state: behind dead hosts, and when its session or the server ends."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlencode

import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from api.postgres.connection import CONNECT_TIMEOUT, is_away
from api.postgres.pools import HEALTH_TIMEOUT, WAIT_TIMEOUT
from api.postgres.probe import Probe
from tests.conftest import Server
from tests.http.client import Service, problem, serving
from tests.support import Database, one, until

# Another service may be on another database of the server.
OURS = "from pg_stat_activity where datname = current_database() and application_name"
SESSIONS = f"select pid {OURS} like 'ledger serve%' order by pid"
HEALTH = f"select pid {OURS} = 'ledger serve 0 health'"


@contextmanager
def silent_host() -> Iterator[int]:
    """The port of a host that takes connections and says nothing, as one behind a firewall that drops packets."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def dead_host() -> Iterator[int]:
    """A port that refuses connections."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield unused.getsockname()[1]


HOSTS = {"silent": silent_host, "dead": dead_host}


def behind(port: int, database: Database) -> Database:
    """The database as the second of two hosts."""

    def url(role: str) -> str:
        parts = conninfo_to_dict(database.url(role))
        hosts = {"host": f"127.0.0.1,{parts['host']}", "port": f"{port},{parts.get('port') or 5432}"}
        return f"postgresql://?{urlencode(parts | hosts)}"

    return Database(url, database.service, database.admin)


@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
def test_is_healthy_when_the_first_of_two_hosts_does_not_answer(database: Database, host) -> None:
    with host() as port, serving(behind(port, database)) as service:
        until(lambda: service("GET", "/api/health").status == 200, "the health check")
        assert [service("GET", "/api/health").status for _ in range(5)] == [200] * 5
        assert service("GET", "/api/groups").status == 200
        until(lambda: "\nledger_database_up 1.0\n" in metrics(service), "the metrics")


def metrics(service: Service) -> str:
    return service("GET", "/metrics").body.decode()


def test_requests_outlast_a_host_that_does_not_answer(database: Database) -> None:
    assert CONNECT_TIMEOUT < WAIT_TIMEOUT
    with silent_host() as port, serving(behind(port, database)) as service:
        # No connection is there yet when the first request comes.
        assert service("GET", "/api/groups").status == 200
        assert service("POST", "/api/groups", {"name": "ETH"}).status == 201


def test_a_database_behind_a_dead_host_is_not_away(database: Database) -> None:
    with dead_host() as port:
        assert not is_away(behind(port, database).url(database.service))


def test_each_answer_comes_in_time_while_it_connects_once(database: Database) -> None:
    """Any number of health checks during a connection attempt share that attempt."""

    async def story() -> None:
        with silent_host() as port:
            probe = Probe(behind(port, database).url(database.service) + "&connect_timeout=3", "probe", 0.1)
            attempts = set()
            for _ in range(600):
                if await probe.ask("select 1"):
                    break
                attempts.add(probe.attempt)
            assert len(attempts) == 1
            assert await probe.ask("select 2") == [b"2"]
            await probe.close()

    asyncio.run(story())


def test_a_session_that_was_ended_is_replaced_before_the_answer(database: Database) -> None:
    with serving(database) as service, database.connect(database.admin) as admin:
        for _ in range(3):
            assert service("GET", "/api/health").status == 200
            (health,) = one(admin, HEALTH)
            admin.execute("select pg_terminate_backend(%s, 10000)", [health])
            assert service("GET", "/api/health").status == 200
            assert one(admin, HEALTH) != (health,)
        assert "\nledger_database_up 1.0\n" in metrics(service)
        admin.execute(f"select pg_terminate_backend(pid, 10000) from ({SESSIONS}) as s")
        until(lambda: "\nledger_database_up 1.0\n" in metrics(service), "another answer", 5)


def test_a_session_that_is_ended_while_it_is_asked_is_replaced_before_the_answer(database: Database) -> None:
    async def story() -> None:
        probe = Probe(database.url(database.service), "probe", 10)
        assert await probe.ask("select 1") == [b"1"]
        with database.connect(database.admin) as admin:
            asking = asyncio.create_task(probe.ask("select pg_backend_pid() from pg_sleep(0.5)"))
            asked = "select pid from pg_stat_activity where application_name = 'probe' and state = 'active'"
            await asyncio.to_thread(until, lambda: admin.execute(asked).fetchall(), "the question")
            (session,) = one(admin, asked)
            admin.execute("select pg_terminate_backend(%s, 10000)", [session])
            answer = await asking
            assert answer
            assert answer != [b"%d" % session]
        await probe.close()

    asyncio.run(story())


def test_no_session_is_ended_because_it_is_idle(database: Database) -> None:
    with database.connect(database.admin) as admin:
        role = sql.Identifier(database.service)
        name = sql.Identifier(admin.info.dbname)
        admin.execute(sql.SQL("alter role {} in database {} set idle_session_timeout = '200ms'").format(role, name))
        with serving(database) as service:
            assert service("GET", "/api/health").status == 200
            assert "\nledger_database_up 1.0\n" in metrics(service)
            until(lambda: len(admin.execute(SESSIONS).fetchall()) == 18, "all connections")
            sessions = admin.execute(SESSIONS).fetchall()
            time.sleep(1)
            assert admin.execute(SESSIONS).fetchall() == sessions
            assert service("GET", "/api/health").status == 200


def test_a_server_that_hangs_is_unhealthy_in_time_and_healthy_again_afterwards(
    database: Database, server: Server
) -> None:
    with serving(database) as service, database.connect(database.admin) as admin:
        assert service("GET", "/api/health").status == 200
        (health,) = one(admin, HEALTH)
        stopped = [int((server.data / "pgdata" / "postmaster.pid").read_text().split()[0]), health]
        try:
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            for _ in range(4):
                began = time.monotonic()
                problem(service("GET", "/api/health"), 503, "unavailable")
                assert time.monotonic() - began < HEALTH_TIMEOUT + 0.5
        finally:
            for pid in stopped:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        until(lambda: service("GET", "/api/health").status == 200, "the health check")
        until(lambda: len(admin.execute(HEALTH).fetchall()) == 1, "one connection to be left")
        assert service("GET", "/api/health").status == 200
