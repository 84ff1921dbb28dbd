"""The code of hostile receivers."""

REFUSES = bytes.fromhex("5f5ffd")
BURNS = bytes.fromhex("5b5f56")  # jumps to its start until the gas is gone
REVERTS_WITH_98_KB = bytes.fromhex("62017f005ffd")
RETURNS_98_KB = bytes.fromhex("62017f005ff3")
ACCEPTS = bytes.fromhex("00")


def calls_back(data: bytes) -> bytes:
    """Code that calls the sender of ether with this data, and logs as a topic whether it succeeded."""
    length = len(data).to_bytes(2, "big").hex()
    call = f"61{length} 61xxxx 5f 39 5f 5f 61{length} 5f 5f 33 5a f1 5f 5f a1 00".replace(" ", "")
    start = (len(call) // 2).to_bytes(2, "big").hex()
    return bytes.fromhex(call.replace("xxxx", start)) + data
