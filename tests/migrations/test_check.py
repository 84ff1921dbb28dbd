"""`make check f=name`: which tests it runs."""

import subprocess
import sys

import pytest

from db import check
from tests.migrations.steps import ROOT

TEXTS = check.functions()


@pytest.mark.parametrize(
    ("name", "reaching"),
    [
        ("transfer_is_valid", {"transfer", "transfer_batch", "transfer_batch_of_one"}),  # by calls
        ("balance_violation", {"reverse_transfer", "transfer", "transfer_all", "transfer_batch"}),  # by calls of calls
        ("entry_is_valid", {"exit_group", "join_group", "transfer", "transfer_all"}),  # a constraint
        ("forbid_mutation", {"revoke_api_key", "transfer"}),  # a trigger
    ],
)
def test_finds_the_functions_that_call_a_function(name, reaching):
    assert reaching <= check.reaching(name, TEXTS)


def test_comments_and_messages_are_no_calls():
    called = "create or replace function ledger.called()\nas $$\nselect 1\n$$;\n"
    other = "create or replace function ledger.other()\nas $$\n-- As called() does.\nselect 'called()'\n$$;\n"
    caller = "create or replace function ledger.caller()\nas $$\nselect ledger.called ()\n$$;\n"
    assert check.reaching("called", {"called": called, "other": other, "caller": caller}) == {"called", "caller"}


@pytest.mark.parametrize("name", TEXTS)
def test_every_function_is_tested_by_something(name):
    tests = check.tests_of(name, TEXTS)
    assert len(tests) > len(check.FOR_EACH_FUNCTION)
    assert all(path.is_file() for path in tests)


def test_an_unknown_function_is_refused():
    command = [sys.executable, "-m", "db.check", "tranfser"]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=60)
    assert done.returncode == 1
    assert "make check f=" in done.stderr
    assert "transfer" in done.stderr
