"""A person at a browser: they read what is shown, and use controls by their names."""

from __future__ import annotations

import json
from dataclasses import dataclass

import psycopg

from tests.openapi.browser import Page
from tests.support import until

# The control with a name, which is its label, its text or its aria-label; the topmost dialog hides what is below it.
CONTROL = """
((kinds, name) => {
  const scope = document.querySelector("dialog[open]") ?? document;
  const named = (element) => element.ariaLabel
    ?? (element.labels?.length ? element.labels[0].innerText : element.innerText).trim();
  return [...scope.querySelectorAll(kinds)].find((element) => named(element).startsWith(name));
})"""


@dataclass
class Person:
    page: Page
    address: str

    def opens(self, view: str = "") -> None:
        """Open a view by its address, whatever is open now."""
        self.page("Page.navigate", url="about:blank")
        self.page("Page.navigate", url=f"{self.address}/{view}")
        self.page.until("document.querySelector('main') && !document.querySelector('main[aria-busy]')")

    def control(self, kinds: str, name: str) -> str:
        """The JavaScript expression of a control, once it is there."""
        found = f"{CONTROL}({json.dumps(kinds)}, {json.dumps(name)})"
        self.page.until(found)
        return found

    def follows(self, name: str) -> None:
        self.page.evaluate(f"{self.control('a', name)}.click()")

    def presses(self, name: str) -> None:
        found = self.control("button", name)
        self.page.until(f"!{found}.disabled")
        self.page.evaluate(f"{found}.click()")

    def chooses(self, name: str, option: str) -> None:
        self.page.evaluate(
            f"(field => (field.value = {json.dumps(option)}, field.dispatchEvent(new Event('change'))))"
            f"({self.control('select', name)})"
        )

    def types(self, name: str, text: str) -> None:
        self.page.evaluate(f"{self.control('input', name)}.focus()")
        self.page.evaluate("document.activeElement.select()")
        self.page("Input.insertText", text=text)

    def searches(self, text: str) -> None:
        self.types("Search for", text)
        self.presses("Search")

    def shown(self, selector: str = "body") -> str:
        """The text that is shown, with the thin spaces between digits as spaces."""
        return str(self.page.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText")).replace(
            "\u2009", " "
        )

    def sees(self, text: str, selector: str = "body") -> None:
        """Return once a text is shown."""
        until(lambda: text in self.shown(selector), f"{text!r} in {self.shown(selector)!r}", 30)

    def is_at(self, view: str) -> None:
        self.page.until(f"location.hash === {json.dumps(view)} && !document.querySelector('main[aria-busy]')")

    def complaints(self) -> list[str]:
        """The browser's messages, but for those about answers that the page expects: refusals."""
        self.page.evaluate("0")
        return [each for each in self.page.complaints if "the server responded with a status of 4" not in each]


def entries(admin: psycopg.Connection, group: int) -> list[tuple]:
    """What the record has of a group."""
    query = "select kind, from_id, to_id, amount from ledger.record where group_id = %s order by id"
    return admin.execute(query, [group]).fetchall()
