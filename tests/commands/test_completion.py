"""Tab completion: the words that a shell offers with the script that `ledger completion` prints."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.running.commands import command, done

# What bash does at a tab.
IN_BASH = """
set -u
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
_shtab_ledger
printf '%s\\n' "${COMPREPLY[@]+"${COMPREPLY[@]}"}"
"""

# A terminal of zsh's own, into which words and a tab are typed, until it shows the pattern.
IN_ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "fpath=($1 \$fpath); autoload -U compinit; compinit -u -D; echo rea''dy"
zpty -r shell seen '*ready*'
zpty -w -n shell "$2"$'\t'
zpty -r shell seen "*$3*"
zpty -d shell
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both scripts, under the names that the shells look for."""
    folder = tmp_path_factory.mktemp("completion")
    (folder / "ledger").write_text(done("completion", "bash"))
    (folder / "_ledger").write_text(done("completion", "zsh"))
    return folder


def offered_in_bash(scripts: Path, *words: str) -> set[str]:
    given = ["bash", "-c", IN_BASH, "bash", scripts / "ledger", "ledger", *words]
    result = subprocess.run(given, cwd=scripts, capture_output=True, text=True, check=True)
    assert result.stderr == ""
    return set(result.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="its script needs bash")
def test_bash_completes_commands_actions_options_choices_and_files(scripts: Path) -> None:
    assert {"join", "transfer", "exit"} <= offered_in_bash(scripts, "")
    assert offered_in_bash(scripts, "parti") == {"participant"}
    assert offered_in_bash(scripts, "group", "re") == {"rename", "remove"}
    assert offered_in_bash(scripts, "participant", "list", "--l") == {"--limit"}
    assert {"--from", "--to", "--idempotency-key"} <= offered_in_bash(scripts, "transfer", "--")
    assert offered_in_bash(scripts, "completion", "z") == {"zsh"}
    assert "ledger" in offered_in_bash(scripts, "verify-proof", "led")


@pytest.mark.skipif(shutil.which("zsh") is None, reason="its script needs zsh")
@pytest.mark.parametrize(
    ("typed", "shown"),
    [("ledger parti", "ledger participant"), ("ledger group re", "remove*rename"), ("ledger transfer --f", "--from")],
)
def test_zsh_completes_commands_actions_and_options(typed: str, shown: str, scripts: Path) -> None:
    words = ["zsh", "-f", "-c", IN_ZSH, "zsh", scripts, typed, shown]
    subprocess.run(words, cwd=scripts, capture_output=True, check=True, timeout=60)


def test_another_shell_is_refused() -> None:
    result = command("completion", "fish")
    assert (result.returncode, result.stdout) == (2, "")
