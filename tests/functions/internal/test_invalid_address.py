"""ledger_internal.invalid_address and format_address: how an address is spelled, with the checksum of EIP-55."""

import pytest

from tests.support import one

# The examples of EIP-55.
ALL_CAPS = ["0x52908400098527886E0F7030069857D2E4169EE7", "0x8617E340B3D01FA5F11F306F4090FD50E238070D"]
ALL_LOWER = ["0xde709f2102306220921060314715629080e2fb77", "0x27b1fdb04752bbc536007a920d24acb045561c26"]
MIXED = [
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
]
SPELLED = [*ALL_CAPS, *ALL_LOWER, *MIXED]
SIMPLE = "0x" + "1" * 40


def reason(inside, address: str | None) -> str | None:
    return one(inside, "select ledger_internal.invalid_address(%s)", [address])[0]


@pytest.mark.parametrize("address", SPELLED)
def test_spells_an_address_as_eip_55_does(inside, address):
    query = "select ledger_internal.format_address(%s)"
    assert one(inside, query, [bytes.fromhex(address[2:])]) == (address,)


@pytest.mark.parametrize("address", SPELLED)
def test_takes_the_checksum_and_digits_of_one_case(inside, address):
    for spelled in (address, address.lower(), "0x" + address[2:].upper()):
        assert reason(inside, spelled) is None
        parsed = one(inside, "select ledger_internal.parse_address(%s)", [spelled])
        assert parsed == (bytes.fromhex(address[2:]),)


@pytest.mark.parametrize("address", MIXED)
def test_refuses_each_letter_in_the_other_case(inside, address):
    for place in range(2, 42):
        if address[place].isalpha():
            assert reason(inside, address[:place] + address[place].swapcase() + address[place + 1 :])


def test_takes_digits_alone_and_a_single_bit(inside):
    assert reason(inside, SIMPLE) is None
    assert reason(inside, f"0x{1:040x}") is None
    assert reason(inside, f"0x{1 << 159:040x}") is None


@pytest.mark.parametrize(
    "address",
    [
        *[None, "", "0x", "0x0", SIMPLE[:-1], SIMPLE + "1", SIMPLE[2:], SIMPLE[2:] + "11", "0X" + SIMPLE[2:]],
        *[f"0x{0:040x}", SIMPLE[:-1] + "g", " " + SIMPLE, SIMPLE + "\n", SIMPLE[:-1] + "\n", "0x" + "1" * 1_000_000],
        *["0x" + "\uff11" * 40, "0x" + "\u0661" * 20, "0x" + "1" * 38 + "\u00e9", "\\x" + SIMPLE[2:]],
    ],
    ids=lambda address: repr(address)[:60],
)
def test_refuses_what_is_no_address(inside, address):
    assert reason(inside, address)
