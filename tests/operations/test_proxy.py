"""nginx in front of the service: TLS, connections that are kept, a rate limit, and no request sent twice."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.operations.guide import Site, block, ended
from tests.running.commands import children, done, environment, free_port, serving
from tests.support import until

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")

pytestmark = [
    pytest.mark.skipif(NGINX is None, reason="the example for nginx needs nginx: apt-get install nginx-light"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="a certificate to try TLS with needs openssl"),
]

AROUND = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ }}
http {{
  access_log {folder}/access.log combined;
  {temporary}
  include {folder}/ledger.conf;
}}
"""
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@dataclass(frozen=True)
class Proxy:
    folder: Path
    port: int

    def connection(self) -> http.client.HTTPSConnection:
        """A connection that believes the certificate of this proxy and no other."""
        context = ssl.create_default_context(cafile=str(self.folder / "cert.pem"))
        return http.client.HTTPSConnection("localhost", self.port, timeout=60, context=context)

    def nginx(self, line: str) -> str:
        """Run a line of the guide that calls nginx, on this one."""
        assert line.split()[0] == "nginx"
        command = [NGINX or "", "-p", self.folder, "-c", self.folder / "nginx.conf", *line.split()[1:]]
        return ended(command, cwd=self.folder, env=environment())


@contextmanager
def proxied(folder: Path, *services: int) -> Iterator[Proxy]:
    """nginx as the guide has it, before services on these ports."""
    folder.mkdir(mode=0o755)
    port = free_port()
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", folder / "key.pem"]
    ended(["openssl", "req", "-x509", *key, "-out", folder / "cert.pem", *name], cwd=folder, env=environment())
    settings = block("nginx", "limit_req_zone").replace("/etc/ssl/ledger", str(folder))
    settings = settings.replace("listen 443", f"listen 127.0.0.1:{port}").replace("ledger.example", "localhost")
    for number, service in enumerate(services, 1):
        settings = settings.replace(f"app{number}.example:4000", f"127.0.0.1:{service}")
    (folder / "ledger.conf").write_text(settings)
    temporary = " ".join(f"{what}_temp_path {folder}/{what};" for what in TEMPORARY)
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder, temporary=temporary))
    proxy = Proxy(folder, port)
    check, reload = block("sh", "nginx -t").splitlines()
    proxy.nginx(check)
    process = subprocess.Popen([NGINX or "", "-p", folder, "-c", folder / "nginx.conf"], stderr=subprocess.DEVNULL)
    try:
        until(lambda: children(process.pid) and (folder / "nginx.pid").read_text().strip(), "nginx")
        # The old workers close their connections.
        before = children(process.pid)
        proxy.nginx(reload)
        until(lambda: not set(before) & set(children(process.pid)) and children(process.pid), "nginx to be reloaded")
        yield proxy
    finally:
        process.terminate()
        process.wait(30)


def test_forwards_requests_and_limits_their_rate(site: Site, ground: Path) -> None:
    admin = {"LEDGER_ADMIN_URL": site.url("db", "ledger_admin")}
    secret = done("key", "create", "shop", "--scope", "transact", **admin).strip()
    with (
        serving("serve", locked=True, DATABASE_URL=site.url("db", "ledger_service")) as service,
        proxied(ground / "nginx", service.port, service.port) as proxy,
    ):
        connection = proxy.connection()

        def ask(
            method: str, path: str, body: object = None, **headers: str
        ) -> tuple[int, http.client.HTTPMessage, bytes]:
            given = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, json.dumps(body) if body is not None else None, given | headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

        status, headers, body = ask("GET", "/api/health")
        first = connection.sock
        assert (status, json.loads(body)) == (200, {"data": {"status": "ok"}})
        assert headers["Strict-Transport-Security"]
        status, headers, body = ask("GET", "/api/groups")
        assert (status, json.loads(body)["code"]) == (401, "unauthorized")
        assert headers["Content-Type"] == "application/problem+json"
        key = {"Authorization": f"Bearer {secret}"}
        move = {"from": 1, "to": 2, "amount": 1}
        status, headers, body = ask("POST", "/api/groups/1/transfer", move, **key)
        assert status == 200
        assert headers["Ledger-Entry"]
        many = {"transfers": [move | {"amount": 1, "metadata": {"line": "x" * 900}}] * 60}
        assert len(json.dumps(many)) > 1.5 * 32_768  # more than nginx keeps in memory
        assert ask("POST", "/api/groups/1/transfers", many, **key)[0] == 200
        assert connection.sock is first
        connection.close()

        # Sent at once, so that the services' speed does not count.
        context = ssl.create_default_context(cafile=str(proxy.folder / "cert.pem"))
        with (
            socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as flood,
        ):
            one = b"GET /api/groups HTTP/1.1\r\nHost: localhost\r\n\r\n"
            flood.sendall(one * 399 + one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            said = b"".join(iter(lambda: flood.recv(65536), b""))
        refused = said.count(b"HTTP/1.1 429")
        assert refused > 0
        assert said.count(b"HTTP/1.1 401") + refused == 400

    count = block("sh", "/var/log/nginx").replace("/var/log/nginx", str(proxy.folder))
    statuses = dict(line.split() for line in ended(["sh", "-c", count], cwd=ground, env=environment()).splitlines())
    assert statuses == {"200": "2", "401": str(401 - refused), "429": str(refused)}


def test_a_request_whose_answer_was_lost_is_not_sent_again(ground: Path) -> None:
    heard: list[bytes] = []

    def hang_up(listener: socket.socket) -> None:
        """A service that ends at every request."""
        while True:
            connection, _ = listener.accept()
            with connection:
                if not (request := connection.recv(65536)):
                    return
                heard.append(request)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        service = threading.Thread(target=hang_up, args=[listener])
        service.start()
        try:
            with proxied(ground / "nginx-alone", port, port) as proxy:
                connection = proxy.connection()
                connection.request("DELETE", "/api/groups/1/participants/1")
                assert connection.getresponse().status == 502
                connection.close()
        finally:
            with socket.create_connection(("127.0.0.1", port)):  # and says nothing
                pass
            service.join(30)
    assert [request.split()[0] for request in heard] == [b"DELETE"]
