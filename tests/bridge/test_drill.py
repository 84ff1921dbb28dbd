"""The drill, from the first deposit to the last withdrawal."""

from __future__ import annotations

from tests.bridge.drill import Drill
from tests.bridge.world import World


def test_a_group_lives_from_its_first_deposit_to_its_last_withdrawal(world: World) -> None:
    def bridge() -> None:
        assert world.bridge() == 0

    for step in Drill(world, bridge).steps():
        step()
