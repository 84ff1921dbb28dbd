"""record_unknown_root: what a stolen key published, or a restore lost, costs a number and nothing else."""

import pytest

from tests.support import one
from tests.vaults.conftest import chain_hash

HEADER = "0x" + "ab" * 32


def test_the_next_checkpoint_has_a_number_above_it(bridge, alice, admin, group):
    first = bridge.publish()
    bridge.close(1)
    number = 2**32 + 1
    assert bridge.call("record_unknown_root", number, HEADER, *bridge.mined()) == {"replayed": False}
    status = bridge.call("get_vault")
    assert (status["unknown_number"], status["next_number"], status["accepted_number"]) == (number, number + 1, 1)
    made = bridge.publish()
    assert (made["number"], made["previous"]) == (number + 1, first["header"])
    bridge.close(number + 1)
    assert bridge.publish()["number"] == number + 2
    assert one(
        admin, "select array_agg(number order by number) from ledger.checkpoints where group_id = %s", [group]
    ) == ([1, number + 1, number + 2],)


def test_it_is_there_before_any_checkpoint(bridge, alice):
    assert bridge.call("get_vault")["unknown_number"] is None
    bridge.call("record_unknown_root", 7, HEADER, *bridge.mined())
    made = bridge.publish()
    assert (made["number"], made["previous"]) == (8, "0x" + "00" * 32)


def test_a_lower_one_takes_no_number_back(bridge, alice):
    for number in (9, 4):
        bridge.call("record_unknown_root", number, HEADER, *bridge.mined())
    assert bridge.call("prepare_publication")["number"] == 10


def test_again_changes_nothing(bridge, alice):
    bridge.call("record_unknown_root", 3, HEADER, chain_hash(9), 9)
    assert bridge.call("record_unknown_root", 3, HEADER.upper().replace("X", "x"), chain_hash(9), 9) == {
        "replayed": True
    }
    for values in (("0x" + "ac" * 32, chain_hash(9), 9), (HEADER, chain_hash(8), 9), (HEADER, chain_hash(9), 8)):
        bridge.refused("LG013", "record_unknown_root", 3, *values)


def test_refuses_a_checkpoint_that_was_made_here(bridge, alice):
    made = bridge.call("prepare_publication")
    bridge.refused("LG013", "record_unknown_root", 1, made["header"], chain_hash(9), 9)
    # Another one has taken its number.
    bridge.call("record_unknown_root", 1, HEADER, chain_hash(9), 9)
    bridge.call("record_publication", 1, "abandoned", None, None)
    assert bridge.call("prepare_publication")["number"] == 2


@pytest.mark.parametrize(
    "values",
    [
        (0, HEADER, chain_hash(9), 9),
        (None, HEADER, chain_hash(9), 9),
        (1, None, chain_hash(9), 9),
        (1, "0xab", chain_hash(9), 9),
        (1, HEADER, "9", 9),
        (1, HEADER, chain_hash(9), -1),
        (1, HEADER, chain_hash(9), None),
    ],
)
def test_refuses_invalid_values(bridge, values):
    bridge.refused("LG001", "record_unknown_root", *values)


def test_needs_a_vault(session, bridge):
    bridge.group -= 1
    bridge.refused("LG013", "record_unknown_root", 1, HEADER, chain_hash(9), 9)
    bridge.group = 999
    bridge.refused("LG002", "record_unknown_root", 1, HEADER, chain_hash(9), 9)
