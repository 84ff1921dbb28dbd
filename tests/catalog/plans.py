"""Reads the plans that the server makes, as it prints them.

auto_explain, which would say it more nicely, does not come with every server here.
"""

import re
from collections.abc import Iterator

import psycopg

# A node is {NAME :field value …}, a list is (…); a constant's bytes are [ … ].
TOKENS = re.compile(r'[{}()]|"(?:\\.|[^"\\])*"|(?:\\.|[^\s{}()"\\])+', re.DOTALL)
BYTES = re.compile(r"\[[ \d-]*\]")


def parse(printed: str) -> object:
    """A printed plan: a node is a dict of its fields, with its name under ""."""
    tokens = iter(TOKENS.findall(BYTES.sub("", printed)))

    def value(token: str) -> object:
        if token == "(":
            return [value(token) for token in iter(lambda: next(tokens), ")")]
        if token == "{":
            node = {"": next(tokens)}
            field = None
            for token in iter(lambda: next(tokens), "}"):
                if token.startswith(":"):
                    field = node.setdefault(token, [])
                else:
                    field.append(value(token))
            return node
        return token

    return value(next(tokens))


def nodes(tree: object) -> Iterator[dict]:
    """Every node in a plan."""
    if isinstance(tree, dict):
        yield tree
    for child in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from nodes(child)


def printed_plans(session: psycopg.Connection) -> list[dict]:
    """The plans that the session makes from now on."""
    plans = []

    def note(notice: psycopg.errors.Diagnostic) -> None:
        if notice.message_primary == "plan:":
            plans.append(parse(notice.message_detail))

    session.add_notice_handler(note)
    session.execute("set log_min_messages = fatal")
    session.execute("set client_min_messages = log")
    session.execute("set debug_print_plan = on")
    return plans
