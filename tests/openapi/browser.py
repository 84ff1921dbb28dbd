"""A headless Chromium, told what to do over the DevTools protocol, and what a page made it ask for and say."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PATIENCE = 60  # seconds for a command or a condition

FLAGS = [
    "--headless",
    "--no-sandbox",  # Chromium refuses to run as root otherwise; it sees no page but ours
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--window-size=1280,2000",
    "--remote-debugging-pipe",
]


@dataclass
class Tab:
    """One page. `requested` are the addresses that it asked for, `complaints` what the browser found wrong with it."""

    out: int
    into: int
    session: str = ""
    requested: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    number: int = 0
    received: bytes = b""

    def __call__(self, method: str, **parameters: object) -> dict:
        """Give a command and return its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        for said in self.messages():
            if said.get("id") == self.number:
                assert "result" in said, said
                return said["result"]
        raise AssertionError("the browser has gone")

    def messages(self) -> Iterator[dict]:
        """What the browser says, one after the other."""
        while True:
            while b"\0" in self.received:
                message, _, self.received = self.received.partition(b"\0")
                said = json.loads(message)
                self.note(said)
                yield said
            ready, _, _ = select.select([self.into], [], [], PATIENCE)
            assert ready, "the browser says nothing"
            received = os.read(self.into, 1 << 20)
            if not received:
                return
            self.received += received

    def note(self, said: dict) -> None:
        parameters = said.get("params", {})
        match said.get("method"):
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

    def until(self, script: str) -> None:
        """Return once the expression is true."""
        deadline = time.monotonic() + PATIENCE
        while not self.evaluate(f"Boolean({script})"):
            assert time.monotonic() < deadline, f"waited in vain for {script}; {self.complaints}"
            time.sleep(0.05)

    def screenshot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self("Page.captureScreenshot")["data"]))


@contextmanager
def tab(profile: Path) -> Iterator[Tab]:
    """Run a browser with one empty page."""
    assert CHROMIUM
    its_in, out = os.pipe()
    into, its_out = os.pipe()

    def as_3_and_4() -> None:
        # Copies first: one of them may be 3 or 4 itself.
        spare_in, spare_out = os.dup(its_in), os.dup(its_out)
        os.dup2(spare_in, 3)
        os.dup2(spare_out, 4)

    process = subprocess.Popen(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        preexec_fn=as_3_and_4,
        close_fds=False,
        stderr=subprocess.DEVNULL,
    )
    os.close(its_in)
    os.close(its_out)
    try:
        page = Tab(out, into)
        (target,) = (target for target in page("Target.getTargets")["targetInfos"] if target["type"] == "page")
        attached = page("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page.session = attached["sessionId"]
        for domain in ("Network", "Log", "Runtime", "Page"):
            page(f"{domain}.enable")
        yield page
        page.session = ""
        page("Browser.close")
    finally:
        os.close(out)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(into)
