"""What the tests of internal functions share: a session that may call them."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.functions.conftest import behind


@pytest.fixture
def inside(ledger: psycopg.Connection) -> Iterator[psycopg.Connection]:
    with behind(ledger):
        yield ledger
