"""`ledger completion`: print a script that completes the words of the command in a shell."""

import argparse

import shtab


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script for a shell, made of the parser's commands and options."""
    complete_files(parser)
    return shtab.complete(parser, shell)


def complete_files(parser: argparse.ArgumentParser) -> None:
    """Have arguments that are a path complete files."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in set(action.choices.values()):
                complete_files(below)
        elif action.metavar in ("FILE", "PATH"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
