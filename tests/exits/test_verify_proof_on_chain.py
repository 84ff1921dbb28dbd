"""verify_proof.py --rpc: a proof is compared with what the vault has, as a node answers it."""

import json
import threading
from collections.abc import Iterator
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from eth_utils.crypto import keccak

from api.proofs.verify_proof import LONGEST_ANSWER, SELECTORS, InvalidProof, ask, verify_on_chain
from tests.exits.vectors import PROOFS, domain_of, header_of, octets
from tests.running.commands import command, done, free_port

PROOF = next(proof for proof in PROOFS if proof["siblings"] and int(proof["checkpoint"]["vault"], 16))
CHECKPOINT = PROOF["checkpoint"]
HEADER = octets(CHECKPOINT["header"])
NUMBER = CHECKPOINT["number"]
BLOCK = 1234
ZERO = bytes(32)


class Node:
    """A node of the chain, which answers as it is set."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.asked: list[tuple[str, list]] = []
        self.results: dict[str, object] = {
            "eth_chainId": hex(CHECKPOINT["chain_id"]),
            "eth_getBlockByNumber": {"number": hex(BLOCK), "timestamp": hex(1_764_466_512)},
        }
        self.views = {
            "domain(uint64)": domain_of(CHECKPOINT),
            "latest(uint64)": root(NUMBER, HEADER),
            "ripe(uint64)": root(NUMBER, HEADER),
            "emergency(uint64)": ZERO,
            "spent(uint64,uint64,uint64)": ZERO,
        }
        self.raw: bytes | None = None
        self.status = 200

    def answer(self, body: bytes) -> bytes:
        if self.raw is not None:
            return self.raw
        call = json.loads(body)
        self.asked.append((call["method"], call["params"]))
        if call["method"] == "eth_call":
            signature = next(name for name, begin in SELECTORS.items() if call["params"][0]["data"].startswith(begin))
            result: object = f"0x{self.views[signature].hex()}"
        else:
            result = self.results[call["method"]]
        return json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": result}).encode()


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


def root(number: int, header: bytes) -> bytes:
    """What `latest` and `ripe` return."""
    return word(number) + header + 7 * ZERO


@pytest.fixture
def node() -> Iterator[Node]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answer = node.answer(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(node.status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", free_port()), Handler) as server:
        node = Node(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield node
        finally:
            server.shutdown()
            thread.join()


def test_the_selectors_are_those_of_the_signatures():
    assert {name: f"0x{keccak(text=name)[:4].hex()}" for name in SELECTORS} == SELECTORS


def test_shows_what_the_vault_has_at_the_finalized_block(node):
    first, *lines = verify_on_chain(PROOF, node.address, CHECKPOINT["vault"]).splitlines()
    assert f"vault {CHECKPOINT['vault']} on chain {CHECKPOINT['chain_id']}" in first
    assert f"finalized block {BLOCK} of 2025-11-30 01:35:12 UTC" in first
    assert lines == [f"checkpoint {NUMBER} is the last ripe one", "there is no emergency", "this leaf was not paid"]
    assert ("eth_getBlockByNumber", ["finalized", False]) in node.asked
    calls = [parameters for method, parameters in node.asked if method == "eth_call"]
    assert {(call["to"], at) for call, at in calls} == {(CHECKPOINT["vault"], hex(BLOCK))}
    group = word(CHECKPOINT["group_id"]).hex()
    assert {call["data"][10:74] for call, _ in calls} == {group}
    assert group + word(NUMBER).hex() + word(PROOF["leaf"]["index"]).hex() in {call["data"][10:] for call, _ in calls}


def test_shows_an_emergency_and_a_payment(node):
    node.views |= {"emergency(uint64)": word(1), "spent(uint64,uint64,uint64)": word(1)}
    shown = verify_on_chain(PROOF, node.address)
    assert "there is an emergency" in shown
    assert "this leaf was paid" in shown


def refused(node: Node, otherwise: str, proof: object = PROOF, vault: str | None = None) -> None:
    with pytest.raises(InvalidProof, match=otherwise):
        verify_on_chain(proof, node.address, vault)


def test_refuses_a_checkpoint_that_is_not_the_last_ripe_one(node):
    other = bytes(range(32))
    node.views["ripe(uint64)"] = node.views["latest(uint64)"] = root(NUMBER + 1, other)
    refused(node, f"is older.*: the last ripe one is {NUMBER + 1}")
    # The same number with another header.
    node.views["ripe(uint64)"] = node.views["latest(uint64)"] = root(NUMBER, other)
    refused(node, "another header")
    node.views["ripe(uint64)"] = root(NUMBER - 1, other)
    refused(node, "was vetoed, or not published")
    node.views["latest(uint64)"] = root(NUMBER, HEADER)
    refused(node, "is not ripe yet")


def test_refuses_another_chain_vault_or_domain(node):
    refused(node, "of another vault", vault="0x" + "12" * 20)
    node.views["domain(uint64)"] = bytes(range(32))
    refused(node, "another domain")
    node.views["domain(uint64)"] = b""  # as an address without code answers
    refused(node, "does not answer")
    node.results["eth_chainId"] = hex(CHECKPOINT["chain_id"] + 1)
    refused(node, "of chain")


def test_refuses_a_group_without_a_vault(node):
    proof = deepcopy(PROOF)
    proof["checkpoint"] |= {"vault": "0x" + "00" * 20, "chain_id": 0}
    proof["checkpoint"]["header"] = header_of(proof["checkpoint"])
    refused(node, "has no vault", proof)
    assert node.asked == []


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"error":{"code":-32000,"message":"no"}}',
        b'{"result":null}',
        b'{"result":17}',
        b'{"result":"0x"}',
        b'{"result":{"number":"0x1","timestamp":"0xffffffffffffffff"}}',
        b'{"result":"' + b"f" * LONGEST_ANSWER + b'"}',
        b"[" * 100_000,
    ],
)
def test_refuses_a_node_that_answers_nonsense(node, raw):
    node.raw = raw
    with pytest.raises(InvalidProof):
        verify_on_chain(PROOF, node.address)


def test_refuses_a_node_that_is_away_or_refuses(node):
    node.status = 403
    with pytest.raises(InvalidProof, match="status 403"):
        ask(node.address, "eth_chainId")
    with pytest.raises(InvalidProof, match="does not answer"):
        ask(f"http://127.0.0.1:{free_port()}", "eth_chainId")
    with pytest.raises(InvalidProof, match="begins with"):
        ask("file:///etc/passwd", "eth_chainId")


def test_is_a_command(node, tmp_path):
    file = tmp_path / "proof.json"
    file.write_text(json.dumps(PROOF))
    printed = done("verify-proof", file, "--rpc", node.address, "--vault", CHECKPOINT["vault"])
    assert printed.splitlines()[1:] == verify_on_chain(PROOF, node.address).splitlines()
    assert f"of group {CHECKPOINT['group_id']}" in printed.splitlines()[0]
    owner = PROOF["leaf"]["owner"]
    assert done("verify-proof", file, "--rpc", node.address, "--owner", owner) == printed
    assert f", payable to {owner}: leaf" in printed
    of_another = command("verify-proof", file, "--rpc", node.address, "--owner", "0x" + "12" * 20)
    assert (of_another.returncode, of_another.stdout) == (1, "")
    assert "another owner" in of_another.stderr
    node.views["ripe(uint64)"] = root(NUMBER + 1, ZERO)
    refused_ones = ([file, "--rpc", node.address], [file, "--vault", CHECKPOINT["vault"]])
    for arguments in refused_ones:
        failed = command("verify-proof", *arguments)
        assert (failed.returncode, failed.stdout) == (1, "")
        assert failed.stderr.startswith("not proved: ")
        assert failed.stderr.count("\n") == 1
