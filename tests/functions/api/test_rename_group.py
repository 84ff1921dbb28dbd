"""ledger.rename_group: a new name for the same group."""

from tests.support import call, create, one


def test_takes_a_name_with_a_collation_of_its_own(ledger, group):
    assert one(ledger, "select name from ledger.rename_group(%s, 'coly' collate \"POSIX\")", [group]) == ("coly",)


def test_changes_the_name_alone(ledger, group, alice, record):
    before = call(ledger, "list_participants", group), record()
    assert call(ledger, "rename_group", group, "ETC") == [("ETC", group)]
    assert call(ledger, "get_group", group) == [("ETC", group)]
    assert (call(ledger, "list_participants", group), record()) == before


def test_keeps_every_character_of_a_name(ledger, group, good_name):
    assert call(ledger, "rename_group", group, good_name) == [(good_name, group)]


def test_takes_its_own_name_again(ledger, group):
    assert call(ledger, "rename_group", group, "ETH") == [("ETH", group)]


def test_a_name_is_exact(ledger, group):
    other = create(ledger, "DAI")
    assert call(ledger, "rename_group", other, "eth") == [("eth", other)]


def test_takes_the_name_of_a_removed_group(ledger, group):
    call(ledger, "remove_group", create(ledger, "DAI"))
    assert call(ledger, "rename_group", group, "DAI") == [("DAI", group)]


def test_refuses_a_bad_name(refuses, group, bad_name):
    refuses("LG001", ["name"], "rename_group", group, bad_name)


def test_refuses_a_name_in_use(refuses, group):
    refuses("LG005", ["name"], "rename_group", group, "Neighbour")


def test_refuses_an_unknown_group(refuses, group, stranger):
    refuses("LG002", ["group_id"], "rename_group", stranger, "ETC")


def test_a_bad_name_is_reported_before_an_unknown_group(refuses, stranger):
    refuses("LG001", ["name"], "rename_group", stranger, " ")


def test_refuses_a_null_group(refuses, group):
    refuses("LG001", ["group_id"], "rename_group", None, "ETC")


def test_names_every_invalid_value_at_once(refuses, group):
    refuses("LG001", ["group_id", "name"], "rename_group", None, None)
