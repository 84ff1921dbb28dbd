"""TLS to the database, and unreachable hosts: permanent errors are reported at once."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from api import cli, settings
from api.admin import seed, verify
from api.postgres import embedded, migrate, sessions
from api.postgres.connection import is_away, is_permanent
from tests.operations.guide import Site, ended, initialise, sited
from tests.running.commands import command, environment, free_port, refusal
from tests.support import until

VERSION = 15  # the wheel's servers are built without TLS

needs_tls = [
    pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates to try TLS with need openssl"),
    pytest.mark.skipif(
        not Path(f"/usr/lib/postgresql/{VERSION}/bin/postgres").exists(),
        reason=f"a server with TLS: apt-get install postgresql-{VERSION}",
    ),
]


@dataclass(frozen=True)
class Tls:
    """A server that listens on a port, with a certificate for localhost that its own authority signed."""

    site: Site
    port: int

    @property
    def authority(self) -> Path:
        return self.site.folder / "ca.pem"

    def url(self, host: str = "localhost", **parameters: str | Path) -> str:
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"postgresql://postgres:hidden-word@{host}:{self.port}/postgres?{query}"


@pytest.fixture(scope="module")
def tls() -> Iterator[Tls]:
    with tempfile.TemporaryDirectory(prefix="ledger-") as ground:
        Path(ground).chmod(0o755)
        with sited(Path(ground) / "site", VERSION) as site:
            initialise(site)
            site.folder.chmod(0o755)
            port = free_port()
            curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
            for name in ("ca", "other"):
                made = ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"]
                ended(["openssl", "req", "-x509", *curve, *made], cwd=site.folder, env=environment())
            request = [*curve, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost"]
            alternative = ["-addext", "subjectAltName=DNS:localhost"]
            ended(["openssl", "req", *request, *alternative], cwd=site.folder, env=environment())
            signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-copy_extensions", "copy", "-out", "server.pem"]
            ended(["openssl", "x509", "-req", "-in", "server.csr", *signed], cwd=site.folder, env=environment())
            account = embedded._account(embedded._ACCOUNT)
            for name in ("server.key", "server.pem"):
                shutil.chown(site.folder / name, account.pw_uid, account.pw_gid)
                (site.folder / name).chmod(0o600)
            with (site.main("db") / "postgresql.conf").open("a") as file:
                file.write(
                    f"""
                    listen_addresses = '127.0.0.1'
                    port = {port}
                    ssl = on
                    ssl_cert_file = '{site.folder}/server.pem'
                    ssl_key_file = '{site.folder}/server.key'
                    """
                )
            site.stop("db")
            site.start("db")
            yield Tls(site, port)


def refused_at_once(url: str, **environment: str | Path) -> str:
    """Return the error of `ledger serve`, which must come at once although it may wait for an hour."""
    message = refusal("serve", PORT=str(free_port()), DATABASE_URL=url, DATABASE_WAIT="3600", **environment)
    assert "cannot connect to the database at " in message
    assert "waiting" not in message
    assert "hidden-word" not in message
    return message


class TestTls:
    pytestmark = needs_tls

    def test_a_certificate_that_another_authority_signed(self, tls: Tls) -> None:
        url = tls.url(sslmode="verify-full", sslrootcert=tls.site.folder / "other.pem")
        assert "certificate verify failed" in refused_at_once(url)
        for said in ("migrate", "verify"):
            assert "certificate verify failed" in refusal(said, LEDGER_ADMIN_URL=url)

    def test_an_authority_that_is_absent(self, tls: Tls) -> None:
        message = refused_at_once(tls.url(sslmode="verify-full", sslrootcert="/no/such.pem"))
        assert '"/no/such.pem" does not exist' in message

    def test_a_certificate_for_another_host(self, tls: Tls) -> None:
        message = refused_at_once(tls.url("127.0.0.1", sslmode="verify-full", sslrootcert=tls.authority))
        assert "does not match host name" in message

    def test_a_server_without_tls(self, tls: Tls) -> None:
        own = f"postgresql://postgres@127.0.0.1:{tls.port}/postgres?sslmode=disable"
        with psycopg.connect(own, autocommit=True) as admin:
            admin.execute("alter system set ssl = off")
            admin.execute("select pg_reload_conf()")
            try:

                def is_off() -> bool:
                    try:
                        psycopg.connect(tls.url(sslmode="require")).close()
                    except psycopg.OperationalError:
                        return True
                    return False

                until(is_off, "TLS to be off")
                assert "server does not support SSL" in refused_at_once(tls.url(sslmode="require"))
            finally:
                admin.execute("alter system reset ssl")
                admin.execute("select pg_reload_conf()")
        until(lambda: not is_off(), "TLS to be on")

    def test_the_systems_certificates_are_where_a_variable_says(self, tls: Tls) -> None:
        url = tls.url(sslmode="verify-full", sslrootcert="system")
        # It connects, and finds no ledger there.
        assert "not migrated" in refusal("key", "list", LEDGER_ADMIN_URL=url, SSL_CERT_FILE=tls.authority)
        other = {"SSL_CERT_FILE": tls.site.folder / "other.pem", "SSL_CERT_DIR": "/nonexistent"}
        assert "certificate verify failed" in refusal("key", "list", LEDGER_ADMIN_URL=url, **other)

    def test_the_systems_certificates_are_found_without_a_variable(self, tls: Tls) -> None:
        url = tls.url(sslmode="verify-full", sslrootcert="system")
        # The system of this test keeps its certificates in another place than those that we know.
        script = f"""
from api import cli, settings
settings.BUNDLES = ("/nonexistent", {str(tls.authority)!r})
cli.main(["key", "list"])
"""
        done = subprocess.run(
            [cli.sys.executable, "-c", script],
            env={"PATH": environment()["PATH"], "LEDGER_ADMIN_URL": url},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "not migrated" in done.stderr


def test_the_systems_certificates_are_those_of_a_file_that_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = tempfile.gettempdir()
    monkeypatch.setenv("SSL_CERT_DIR", chosen)
    monkeypatch.setenv("SSL_CERT_FILE", "")
    with tempfile.NamedTemporaryFile() as file:
        monkeypatch.setattr(settings, "BUNDLES", ("/nonexistent", file.name))
        settings.trust_the_system()
        assert settings.os.environ["SSL_CERT_FILE"] == file.name
        assert settings.os.environ["SSL_CERT_DIR"] == chosen


# Hosts


@pytest.mark.parametrize(
    ("number", "away"), [(socket.EAI_NONAME, False), (socket.EAI_NODATA, False), (socket.EAI_AGAIN, True)]
)
def test_waits_for_a_name_service_but_not_for_an_unknown_name(
    number: int, away: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(number, "as getaddrinfo has it")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert is_away("postgresql://no.host.invalid/books") == away


def test_waits_for_one_host_of_several(tmp_path: Path) -> None:
    (tmp_path / "missing").mkdir()
    closed = free_port()
    certificate = "/no/such.pem"
    both = f"postgresql:///books?host=127.0.0.1,127.0.0.2&port={closed}&sslmode=verify-full&sslrootcert={certificate}"
    assert is_away(both)
    # As psycopg puts several failures together.
    refused = '{}"127.0.0.1", port 1, hostaddr: None: connection failed: Connection refused'
    untrusted = '{}"127.0.0.2", port 1, hostaddr: None: SSL error: certificate verify failed'
    heading = "the last one\nMultiple connection attempts failed. All failures were:\n"
    for parts, permanent in (
        ((refused, untrusted), False),
        ((untrusted, refused), False),
        ((untrusted, untrusted), True),
        ((refused, refused), False),
    ):
        said = heading + "\n".join(part.format("- host: ") for part in parts)
        assert is_permanent(psycopg.OperationalError(said)) == permanent


def test_an_unfinished_handshake_is_not_permanent() -> None:
    assert not is_permanent(psycopg.OperationalError("SSL error: unexpected eof while reading"))
    assert is_permanent(psycopg.OperationalError("SSL error: tlsv1 alert protocol version"))


@pytest.mark.parametrize(
    "command", [migrate.migrate, migrate.reset, seed.seed, lambda url: [*verify.verify(url)]], ids=lambda _: ""
)
def test_no_command_waits_for_a_silent_host(command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "CONNECT_TIMEOUT", 1)
    monkeypatch.delenv("PGCONNECT_TIMEOUT", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(psycopg.errors.ConnectionTimeout):
        command(f"postgresql://127.0.0.1:{silent.getsockname()[1]}/books")


def test_psql_has_a_connect_time_out(tmp_path: Path) -> None:
    (tmp_path / "psql").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "psql").chmod(0o755)
    url, path = "postgresql://127.0.0.1:1/books", f"{tmp_path}:{environment()['PATH']}"
    shown = command("psql", LEDGER_ADMIN_URL=url, PATH=path).stdout
    assert f"connect_timeout={sessions.CONNECT_TIMEOUT}" in shown
    shown = command("psql", LEDGER_ADMIN_URL=url + "?connect_timeout=77", PATH=path).stdout
    assert "connect_timeout=77" in shown
