"""A headless Chromium, controlled over the DevTools protocol, with a page's requests and messages."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from websockets.sync.client import ClientConnection, connect

from tests.support import until

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PATIENCE = 60  # seconds for an answer

FLAGS = [
    "--headless",
    "--no-sandbox",  # Chromium refuses to run as root otherwise; it sees no page but ours
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--window-size=1280,2000",
    "--remote-debugging-port=0",
]


@dataclass
class Page:
    """One page. `requested` are the addresses that it requested, `complaints` the browser's messages about it."""

    connection: ClientConnection
    port: int
    requested: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    number: int = 0

    def __call__(self, method: str, **parameters: object) -> dict:
        """Give a command and return its result."""
        self.number += 1
        self.connection.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            said = json.loads(self.connection.recv(PATIENCE))
            if said.get("id") == self.number:
                assert "result" in said, said
                return said["result"]
            self.note(said.get("method"), said.get("params", {}))

    def note(self, event: str, parameters: dict) -> None:
        match event:
            case "Network.requestWillBeSent":
                self.requested.append(parameters["request"]["url"])
            case "Log.entryAdded":
                self.complaints.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning", "assert"):
                self.complaints.append(json.dumps(parameters["args"]))

    def evaluate(self, script: str) -> object:
        """The value of a JavaScript expression."""
        result = self("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def resolve(self, script: str) -> object:
        """The value of a promise."""
        result = self("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, script: str) -> None:
        """Return once the expression is true."""
        until(lambda: self.evaluate(f"Boolean({script})"), script)

    def screenshot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self("Page.captureScreenshot")["data"]))


@contextmanager
def page(profile: Path) -> Iterator[Page]:
    """Run a browser with one empty page."""
    assert CHROMIUM
    process = subprocess.Popen(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        port_file = profile / "DevToolsActivePort"
        until(lambda: port_file.exists() and port_file.read_text().count("\n"), "the browser")
        port = port_file.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as listed:
            (target,) = (target for target in json.load(listed) if target["type"] == "page")
        with attached(int(port), target["id"]) as opened:
            yield opened
    finally:
        process.terminate()
        process.wait(PATIENCE)


@contextmanager
def attached(port: int, target: str) -> Iterator[Page]:
    address = f"ws://127.0.0.1:{port}/devtools/page/{target}"
    with connect(address, max_size=None, proxy=None, ping_interval=None) as connection:
        opened = Page(connection, port)
        for domain in ("Network", "Log", "Runtime", "Page"):
            opened(f"{domain}.enable")
        yield opened


@contextmanager
def another(page: Page) -> Iterator[Page]:
    """Open another window of the same browser."""
    target = page("Target.createTarget", url="about:blank", newWindow=True)["targetId"]
    with attached(page.port, target) as opened:
        yield opened
    page("Target.closeTarget", targetId=target)
