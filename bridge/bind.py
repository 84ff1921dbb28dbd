"""Bind a participant's address after a check that they have its key: they have signed a message (EIP-191)."""

from eth_account import Account
from eth_account.messages import encode_defunct
from eth_utils.address import to_checksum_address

from bridge.halts import Refusal
from bridge.ledger import Ledger

# As wallets sign it with personal_sign. The domain is a hash of the chain, the vault and the group.
MESSAGE = "I am participant {participant} of a ledger's group.\nDomain: {domain}"


def message(domain: str, participant: int) -> str:
    """Return the text that the owner of an address signs."""
    return MESSAGE.format(participant=participant, domain=domain)


def bind(ledger: Ledger, group: int, participant: int, address: str, signature: str) -> str:
    """Check the signature and bind the address; return it as it is spelled. Raises Refusal, Halt."""
    text = message(ledger.row("get_vault", group).domain, participant)
    owner = to_checksum_address(address)
    try:
        signer = Account.recover_message(encode_defunct(text=text), signature=bytes.fromhex(signature))
    except Exception as error:  # of eth-keys and its back ends
        raise Refusal(f"this is no signature: {error}") from None
    if signer != owner:
        raise Refusal(f"{owner} has not signed this message, but {signer}, or the message was another one:\n{text}")
    return str(ledger.row("bind_proved_address", group, participant, owner).address)
