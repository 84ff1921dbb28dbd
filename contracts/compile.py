"""Compile contracts/vault.vy into contracts/vault.json: `make contract`."""

import json
import sys
from pathlib import Path

import vyper
from vyper.compiler import compile_code

SOURCE = Path(__file__).with_name("vault.vy")
ARTIFACT = SOURCE.with_suffix(".json")


def artifact() -> str:
    """Compile the vault.

    `runtime` is the code on the chain without what follows it there: the five immutables, 32 bytes each, in the order
    in which the contract declares them.
    """
    formats = ["abi", "bytecode", "bytecode_runtime"]
    compiled = compile_code(SOURCE.read_text(), contract_path=SOURCE.name, output_formats=formats)
    parts = {
        "abi": compiled["abi"],
        "bytecode": compiled["bytecode"],
        "runtime": compiled["bytecode_runtime"],
        "compiler": vyper.__version__.split("+")[0],
    }
    return json.dumps(parts, indent=1) + "\n"


def main() -> None:
    text = artifact()
    ARTIFACT.write_text(text)
    print(f"{ARTIFACT.name}: {len(json.loads(text)['runtime']) // 2 - 1} bytes of code", file=sys.stderr)


if __name__ == "__main__":
    main()
