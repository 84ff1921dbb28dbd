"""ledger_internal.forbid_mutation: nobody changes or deletes the record, its owner and a superuser included."""

import pytest

from tests.support import refused, transfer

# Whose rows they are does not matter: the statement is refused, not the row.
REWRITINGS = {
    "update-an-entry": "update ledger.entries set amount = amount + 1",
    "update-no-entry": "update ledger.entries set amount = 0 where false",
    "delete-an-entry": "delete from ledger.entries",
    "truncate-the-entries": "truncate ledger.entries cascade",
    "delete-a-participant": "delete from ledger.participants",
    "truncate-the-participants": "truncate ledger.participants cascade",
    "delete-a-group": "delete from ledger.groups",
    "truncate-the-groups": "truncate ledger.groups cascade",
    "update-a-change-of-a-name": "update ledger.name_changes set old_name = 'x'",
    "delete-a-change-of-a-name": "delete from ledger.name_changes",
    "truncate-the-changes-of-names": "truncate ledger.name_changes",
    "overwrite-by-an-insert": """
        insert into ledger.entries overriding system value
        select * from ledger.entries limit 1
        on conflict (group_id, id) do update set amount = 0""",
    "merge": """
        merge into ledger.entries as e using ledger.entries as s on s.group_id = e.group_id and s.id = e.id
        when matched then delete""",
}


@pytest.mark.parametrize("role", ["ledger_owner", "none"])
@pytest.mark.parametrize("statement", REWRITINGS.values(), ids=REWRITINGS.keys())
def test_refuses_to_rewrite(owner, ledger, group, alice, bob, statement, role):
    transfer(ledger, group, alice, bob, 1)
    service = owner.execute("select session_user").fetchone()[0]
    owner.execute("reset session authorization")
    owner.execute(f"set role {role}")
    diag = refused(owner, "23001", statement)
    assert diag.message_hint
    owner.execute("reset role")
    owner.execute(f"set session authorization {service}")
