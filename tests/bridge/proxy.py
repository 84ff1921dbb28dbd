"""A node that alters the answers of another one: it lies, leaves out, or keeps silent."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# Takes a method, its parameters and the true answer's result, and returns the result to answer with.
Alter = Callable[[str, list[Any], Any], Any]


class Silence(Exception):
    """Raised by an alteration: the request stays without an answer."""


class Refusal(Exception):
    """Raised by an alteration: the request is answered with an error of these words."""


@dataclass
class Proxy:
    """A node that answers as `behind` does, but for what `alter` makes of it."""

    url: str
    behind: str
    alter: Alter = lambda method, parameters, result: result
    before: Alter | None = None  # is called with the next transaction, which the node does not get
    asked: list[str] = field(default_factory=list)  # the methods


@contextmanager
def proxying(behind: str) -> Iterator[Proxy]:
    proxy = Proxy("", behind)
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            call = json.loads(body)
            proxy.asked.append(call["method"])
            if proxy.before is not None and call["method"] == "eth_sendRawTransaction":
                proxy.before(call["method"], call["params"], None)
                proxy.before = None
                self.close_connection = True
                return
            request = urllib.request.Request(proxy.behind, body, {"Content-Type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=60) as response:
                    answer = json.load(response)
                if "result" in answer:
                    answer["result"] = proxy.alter(call["method"], call["params"], answer["result"])
            except Silence:
                ended.wait(60)
                self.close_connection = True
                return
            except Refusal as error:
                answer = {"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32000, "message": str(error)}}
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that has not waited

    with Server(("127.0.0.1", 0), Handler) as server:
        proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            ended.set()
            server.shutdown()
