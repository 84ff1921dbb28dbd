"""A vault with a group on each of two EVMs: each rule holds on both."""

import pytest

from tests.vault.evms import PyEvm, Revm
from tests.vault.vault import Books, Vault


@pytest.fixture(params=[Revm, PyEvm], ids=["revm", "py-evm"])
def vault(request: pytest.FixtureRequest) -> Vault:
    return Vault(request.param())


@pytest.fixture
def books(vault: Vault) -> Books:
    """An open group without deposits."""
    return Books(vault).open()


@pytest.fixture
def funded(books: Books) -> Books:
    """A group whose participants 1, 2 and 3 have deposited 100, 200 and 300, which are not in any root."""
    for participant in (1, 2, 3):
        books.deposit(participant, 100 * participant)
    return books
