"""The explorer's own arithmetic, in the browser that runs it: proofs and amounts."""

import copy
import json

import pytest

from api.proofs.verify_proof import InvalidProof, read, verify
from tests.support import create, join, one, until

ZERO = "0x" + "00" * 32


@pytest.fixture
def checked(person):
    """Check a proof, or the leaves of a checkpoint, with the page's module; returns whether it is valid."""

    def check(function, *arguments):
        given = ", ".join(json.dumps(argument) for argument in arguments)
        script = (
            f"import('/explorer/proofs.js').then(proofs => proofs.{function}({given}))"
            ".then(({ valid }) => valid, error => error.message)"
        )
        return person.page.resolve(script) is True

    person.opens()
    return check


@pytest.fixture
def strings(api):
    return lambda path: api("GET", path, headers={"Prefer": "amounts=string"}).data


@pytest.mark.parametrize("participants", [1, 2, 3, 7])
def test_the_page_computes_the_root_that_was_committed_to(checked, strings, admin, participants):
    group = create(admin, f"tree of {participants}")
    high = (1 << 256) // participants - 1
    ids = [join(admin, group, f"p{number}", high - number) for number in range(participants)]
    if participants > 2:
        one(admin, "select entry_id from ledger.exit_group(%s, %s)", [group, ids[1]])
    one(admin, "select number from ledger.checkpoint(%s)", [group])
    address = f"/api/groups/{group}/checkpoints/1"
    for participant in ids:
        proof = strings(f"{address}/proofs/{participant}")
        assert verify(proof)
        assert checked("checkProof", proof)
    leaves = strings(f"{address}/leaves")
    assert checked("checkSnapshot", proof["checkpoint"], leaves)
    assert not checked("checkSnapshot", proof["checkpoint"], leaves[1:])
    if participants > 1:
        assert not checked("checkSnapshot", proof["checkpoint"], [*leaves[1:], leaves[0]])
    other = copy.deepcopy(leaves)
    other[0]["amount"] = "1"
    assert not checked("checkSnapshot", proof["checkpoint"], other)


def test_the_page_refuses_what_the_command_refuses(checked, strings, admin):
    group = create(admin, "tampered")
    ids = [join(admin, group, f"p{number}") for number in range(5)]
    one(admin, "select number from ledger.checkpoint(%s)", [group])
    proof = strings(f"/api/groups/{group}/checkpoints/1/proofs/{ids[2]}")
    assert checked("checkProof", proof)
    changes = [
        ("checkpoint", "total", "501"),
        ("checkpoint", "credited", "501"),
        ("checkpoint", "number", 2),
        ("checkpoint", "root", ZERO),
        ("checkpoint", "header", ZERO),
        ("checkpoint", "previous", "0x" + "01" * 32),
        ("checkpoint", "leaf_count", 4),
        ("leaf", "amount", "101"),
        ("leaf", "index", 3),
        ("leaf", "index", 5),
        ("leaf", "participant_id", ids[3]),
        ("leaf", "exit_entry", 1),
        ("leaf", "owner", "0x" + "01" * 20),
    ]
    wrong = [copy.deepcopy(proof) for _ in changes]
    for each, (part, name, value) in zip(wrong, changes, strict=True):
        assert each[part][name] != value
        each[part][name] = value
    wrong.append(proof | {"siblings": proof["siblings"][:-1]})
    wrong.append(proof | {"siblings": [*proof["siblings"], proof["siblings"][0]]})
    wrong.append(proof | {"siblings": [{"sum": "99", "hash": proof["siblings"][0]["hash"]}, *proof["siblings"][1:]]})
    for each in wrong:
        with pytest.raises(InvalidProof):
            verify(each)
        assert not checked("checkProof", each), each


def test_a_person_checks_a_proof_and_downloads_it(person, admin, group, tmp_path):
    one(admin, "select number from ledger.checkpoint(%s)", [group["id"]])
    person.opens(f"#/groups/{group['id']}/checkpoints/1")
    person.presses("Check all leaves")
    person.sees("Valid: this page computed the same root", "main")
    person.follows("Proof")
    person.sees("holds 100 wei: leaf 0 of 2", "main")
    person.presses("Check it in this page")
    person.sees("Valid: this page computed the same root", "main")
    assert person.shown("a[download]") == "Download the proof"
    folder = str(tmp_path)
    person.page("Browser.setDownloadBehavior", behavior="allow", downloadPath=folder)
    person.follows("Download the proof")
    file = tmp_path / f"proof-{group['id']}-1-{group['Vitalik']}.json"
    until(lambda: file.exists() and file.stat().st_size > 0, "the proof")
    assert verify(read(file.read_text())).startswith(f"participant {group['Vitalik']} of group {group['id']} holds 100")


@pytest.mark.parametrize(
    ("unit", "wei", "written"),
    [
        ("wei", "0", "0"),
        ("wei", "1234567", "1 234 567"),
        ("gwei", "1", "0.000000001"),
        ("gwei", "1500000000", "1.5"),
        ("ether", "1000000000000000000", "1"),
        ("ether", "1234567000000000000000000", "1 234 567"),
        ("ether", str((1 << 256) - 1), None),
    ],
)
def test_an_amount_is_written_and_read_back_exactly(person, unit, wei, written):
    person.opens()
    script = (
        "import('/explorer/amounts.js').then(amounts => { amounts.chooseUnit(%s);"
        " const written = amounts.format(BigInt(%s)); return [written, String(amounts.parse(written))]; })"
    )
    shown, back = person.page.resolve(script % (json.dumps(unit), json.dumps(wei)))
    assert back == wei
    assert written is None or shown.replace("\u2009", " ") == written
