"""ledger.create_group: names, and the state of a new group."""

from tests.support import call, create


def test_opens_a_group_under_its_name(ledger):
    ((name, group),) = call(ledger, "create_group", "ETH")
    assert name == "ETH"
    assert call(ledger, "get_group", group) == [("ETH", group)]


def test_a_new_group_is_empty(ledger, group, alice, record):
    other = create(ledger, "Other")
    assert call(ledger, "list_participants", other) == []
    assert call(ledger, "group_total", other) == [(0,)]
    assert len(record()) == 1, "only what was there before"


def test_ids_ascend(ledger):
    assert create(ledger, "first") < create(ledger, "second")


def test_keeps_every_character_of_a_name(ledger, good_name):
    ((name, group),) = call(ledger, "create_group", good_name)
    assert name == good_name
    assert call(ledger, "get_group", group) == [(good_name, group)]


def test_refuses_a_bad_name(refuses, bad_name):
    refuses("LG001", ["name"], "create_group", bad_name)


def test_refuses_a_name_in_use(refuses, group):
    refuses("LG005", ["name"], "create_group", "ETH")


def test_a_name_is_exact(ledger, group):
    assert len({group, *(create(ledger, name) for name in ("eth", "Eth", "ETH ", " ETH", "ETH."))}) == 6


def test_the_name_of_a_removed_group_is_free(ledger, group):
    call(ledger, "remove_group", group)
    assert create(ledger, "ETH") > group


def test_a_former_name_of_another_group_is_free(ledger, group):
    call(ledger, "rename_group", group, "ETC")
    assert create(ledger, "ETH") > group
