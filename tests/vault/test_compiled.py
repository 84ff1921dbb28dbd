"""contracts/vault.json is what the pinned compiler makes of contracts/vault.vy."""

import re

from contracts import compile as compiler
from tests.documents.pages import page, table
from tests.exits.vectors import octets
from tests.vault.evms import PyEvm
from tests.vault.vault import COMPILED, Vault

SOURCE = compiler.SOURCE.read_text()


def test_is_compiled_from_the_source() -> None:
    assert compiler.ARTIFACT.read_text() == compiler.artifact()
    assert COMPILED["compiler"] == "0.4.3"


def test_the_code_on_the_chain_is_the_runtime_and_the_immutables() -> None:
    vault = Vault(PyEvm())
    code, runtime = vault.evm.code(vault.address), octets(COMPILED["runtime"])
    assert code.startswith(runtime)
    names = re.findall(r"^(\w+): public\(immutable", SOURCE, re.M)
    assert names == ["CHAIN_ID", "DELAY", "WINDOW", "SILENCE", "MINIMUM"]
    assert code[len(runtime) :] == b"".join(vault.read(name).to_bytes(32, "big") for name in names)


def test_the_code_fits_into_a_contract() -> None:
    assert len(octets(COMPILED["runtime"])) < 24_576 - 5 * 32


def test_every_function_is_described_for_its_caller() -> None:
    functions = re.findall(
        r"@external\n(?:@\w+\n)*def (\w+)\((?:[^()]|\([^()]*\))*\)[^:]*:\n    \"\"\"\n    @notice ", SOURCE
    )
    getters = set(re.findall(r"^(\w+): public\(", SOURCE, re.M))
    published = {each["name"] for each in COMPILED["abi"] if each["type"] == "function"}
    assert published == set(functions) | getters


def test_no_function_that_changes_state_can_be_entered_during_another_one() -> None:
    decorated = re.findall(r"@external\n((?:@\w+\n)*)def (\w+)\(", SOURCE)
    assert len(decorated) > 20
    assert [name for lines, name in decorated if "@view" not in lines and "@nonreentrant" not in lines] == []


def test_only_a_deposit_takes_ether() -> None:
    payable = [each.get("name") for each in COMPILED["abi"] if each.get("stateMutability") == "payable"]
    assert payable == ["deposit"]


def test_every_refusal_has_a_word_that_a_document_explains() -> None:
    words = re.findall(r'^ +assert .*, "([\w ]+)"$', SOURCE, re.M)
    assert len(words) == len(re.findall(r"^ +assert ", SOURCE, re.M))
    explained = [word for row in table("vault", "Word") for word in re.findall("`([^`]+)`", row[0])]
    assert sorted(explained) == sorted(set(words))


def test_the_readme_has_the_trust_paragraph_of_the_page() -> None:
    paragraphs = [re.findall("^> .*", page(name).read_text(), re.M) for name in ("README", "vault")]
    assert paragraphs[0] == paragraphs[1] != []
