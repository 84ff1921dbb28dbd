"""Two EVMs behind one interface, in this process: revm, which is fast, and py-evm, which counts gas as a chain does."""

import sys
from dataclasses import dataclass, field
from typing import Protocol

import pyrevm
from eth.constants import BLANK_ROOT_HASH, CREATE_CONTRACT_ADDRESS, ZERO_ADDRESS
from eth.db.atomic import AtomicDB
from eth.vm.execution_context import ExecutionContext
from eth.vm.forks.cancun.state import CancunState
from eth.vm.forks.cancun.transactions import CancunTransactionBuilder
from eth.vm.spoof import SpoofTransaction

# py-evm and what it imports raise this to 100,000: then JSON that is nested as deeply ends the process, which otherwise
# raises a RecursionError. The messages of these tests are not nested.
sys.setrecursionlimit(1_000)

START = 1_700_000_000
GAS = 16_000_000
CHAIN = 31337
# An address, topics and data.
Log = tuple[str, tuple[bytes, ...], bytes]


@dataclass(frozen=True)
class Outcome:
    succeeded: bool
    output: bytes
    logs: tuple[Log, ...] = ()
    gas: int = field(default=0, compare=False)  # what a transaction pays for


class Evm(Protocol):
    time: int

    def call(self, sender: str, to: str, data: bytes, value: int = 0, gas: int = GAS) -> Outcome: ...
    def deploy(self, sender: str, code: bytes, value: int = 0) -> str: ...
    def balance(self, address: str) -> int: ...
    def fund(self, address: str, wei: int) -> None: ...
    def code(self, address: str) -> bytes: ...
    def put_code(self, address: str, code: bytes) -> None: ...


class Revm:
    """By the newest rules that it knows. It treats all messages as one transaction, so that it has no gas to report."""

    def __init__(self, chain_id: int = CHAIN) -> None:
        self.evm = pyrevm.EVM(pyrevm.Env(cfg=pyrevm.CfgEnv(chain_id=chain_id)))
        self.time = START

    def call(self, sender: str, to: str, data: bytes, value: int = 0, gas: int = GAS) -> Outcome:
        self._begin()
        try:
            output = self.evm.message_call(sender, to, data, value, gas)
        except RuntimeError as error:
            if not str(error).startswith(("Revert", "Halt")):
                raise
            _, _, shown = str(error).partition("output: 0x")
            return Outcome(False, bytes.fromhex(shown.partition(" ")[0]))
        logs = [(log.address.lower(), tuple(log.data[0]), bytes(log.data[1])) for log in self.evm.result.logs]
        return Outcome(True, bytes(output), tuple(logs))

    def deploy(self, sender: str, code: bytes, value: int = 0) -> str:
        self._begin()
        return self.evm.deploy(sender, code, value).lower()

    def _begin(self) -> None:
        self.evm.reset_transient_storage()
        self.evm.set_block_env(pyrevm.BlockEnv(number=1, timestamp=self.time))

    def balance(self, address: str) -> int:
        return self.evm.get_balance(address)

    def fund(self, address: str, wei: int) -> None:
        self.evm.set_balance(address, wei)

    def code(self, address: str) -> bytes:
        # It pads code with zeros.
        return bytes(self.evm.get_code(address) or b"")

    def put_code(self, address: str, code: bytes) -> None:
        self.evm.insert_account_info(address, pyrevm.AccountInfo(code=code))


class PyEvm:
    """By the rules of Cancun."""

    def __init__(self, chain_id: int = CHAIN) -> None:
        self.time, self.chain_id = START, chain_id
        self.state = CancunState(AtomicDB(), self._context(), BLANK_ROOT_HASH)

    def _context(self) -> ExecutionContext:
        return ExecutionContext(ZERO_ADDRESS, self.time, 1, 0, bytes(32), 30_000_000, [], self.chain_id, 0, 0)

    def call(self, sender: str, to: str, data: bytes, value: int = 0, gas: int = GAS) -> Outcome:
        return self._send(octets(sender), octets(to), data, value, gas)[0]

    def deploy(self, sender: str, code: bytes, value: int = 0) -> str:
        outcome, address = self._send(octets(sender), CREATE_CONTRACT_ADDRESS, code, value, GAS)
        if not outcome.succeeded:
            raise RuntimeError(f"output: 0x{outcome.output.hex()} ")
        return address

    def _send(self, sender: bytes, to: bytes, data: bytes, value: int, gas: int) -> tuple[Outcome, str]:
        self.state.execution_context = self._context()
        nonce = self.state.get_nonce(sender)
        unsigned = CancunTransactionBuilder.create_unsigned_transaction(
            nonce=nonce, gas_price=0, gas=gas, to=to, value=value, data=data
        )
        transaction = SpoofTransaction(unsigned, from_=sender, gas_price=0)
        executor = self.state.get_transaction_executor()
        message = executor.build_evm_message(transaction)
        computation = executor.build_computation(message, transaction)
        spent = gas - computation.get_gas_remaining()
        spent -= min(computation.get_gas_refund(), spent // 5)
        executor.finalize_computation(transaction, computation)
        self.state.clear_transient_storage()
        self.state.lock_changes()
        logs = computation.get_log_entries() if computation.is_success else ()
        shown = tuple(
            (f"0x{at.hex()}", tuple(topic.to_bytes(32, "big") for topic in topics), text) for at, topics, text in logs
        )
        return Outcome(computation.is_success, computation.output, shown, spent), f"0x{message.storage_address.hex()}"

    def balance(self, address: str) -> int:
        return self.state.get_balance(octets(address))

    def fund(self, address: str, wei: int) -> None:
        self.state.set_balance(octets(address), wei)

    def code(self, address: str) -> bytes:
        return self.state.get_code(octets(address))

    def put_code(self, address: str, code: bytes) -> None:
        self.state.set_code(octets(address), code)


def octets(address: str) -> bytes:
    return bytes.fromhex(address[2:])
