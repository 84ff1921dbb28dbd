"""Requests that Schemathesis generates from the description: valid ones, invalid ones, and sequences.

Every answer must be one that is described, none a 5xx; what the description forbids must be refused, and what it allows
must not be refused as malformed. EXAMPLES says how many of each operation (make fuzz: more than 20,000 requests);
without it a few of each, the same every time.
"""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from api.http.docs import DESCRIPTION
from tests.http.client import Service

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
FOLDER = Path(__file__).parent

EXAMPLES = int(os.environ.get("EXAMPLES") or 0)
FEW = 5
MANY = 1000  # make fuzz

NUMBERS = itertools.count()


def run(
    folder: Path, location: str | Path, secret: str, *options: str
) -> tuple[subprocess.CompletedProcess, dict[int, int]]:
    """Run Schemathesis with all its checks; return its result, and the number of answers of each status."""
    sent = folder / "sent.json"
    settings = ["--config-file", FOLDER / "schemathesis.toml", "--no-color"]
    key = ["--header", f"Authorization: Bearer {secret}"]
    result = subprocess.run(
        [SCHEMATHESIS, *settings, "run", location, "--checks", "all", "--warnings", "off", *key, *options],
        cwd=folder,
        env=os.environ
        | {"SCHEMATHESIS_HOOKS": "generated_requests", "PYTHONPATH": str(FOLDER), "REQUESTS_SENT": str(sent)},
        capture_output=True,
        text=True,
    )
    return result, {int(status): number for status, number in json.loads(sent.read_text()).items()}


@pytest.fixture
def address(api: Service) -> str:
    """The service's address, with a group whose participants have money."""
    group = api("POST", "/api/groups", {"name": f"generated requests {next(NUMBERS)}"}).data["id"]
    path = f"/api/groups/{group}"
    first, second, third = (
        api("POST", f"{path}/participants", {"username": username, "amount": 1000}).data["id"]
        for username in ("alice", "bob", "carol")
    )
    api("POST", f"{path}/transfer", {"from": first, "to": second, "amount": 5})
    api("DELETE", f"{path}/participants/{third}")
    return f"http://127.0.0.1:{api.port}"


def test_every_answer_is_described_and_none_is_a_5xx(api, address, tmp_path):
    options = ["--max-examples", str(EXAMPLES)] if EXAMPLES else ["--max-examples", str(FEW), "--seed", "1"]
    result, sent = run(tmp_path, f"{address}{DESCRIPTION}", api.secret, *options)
    print(f"{sum(sent.values())} requests, by the status of their answers: {dict(sorted(sent.items()))}")
    assert result.returncode == 0, result.stdout
    assert not any(status >= 500 for status in sent)
    assert {200, 201, 204, 400, 401, 404, 405, 415, 422} <= set(sent)
    assert sum(sent.values()) >= (20_000 if EXAMPLES >= MANY else 1_000)


SPOILED = {
    "an answer has another member": ("Group", {"required": ["name", "id", "owner"]}),
    "more is allowed than the service takes": ("GivenAmount", {"anyOf": [{"type": "string", "const": "1.5"}]}),
    "less is allowed than the service takes": ("Name", {"maxLength": 5}),
}


@pytest.mark.parametrize("change", SPOILED)
def test_a_wrong_description_is_detected(api, address, described, tmp_path, change):
    spoiled = json.loads(json.dumps(described))
    name, keywords = SPOILED[change]
    spoiled["components"]["schemas"][name] |= keywords
    spoiled["paths"] = {
        path: {method: operation for method, operation in item.items() if method in ("post", "parameters")}
        for path, item in spoiled["paths"].items()
        if path in ("/api/groups", "/api/groups/{group_id}/participants")
    }
    (tmp_path / "spoiled.json").write_text(json.dumps(spoiled))
    result, _ = run(
        tmp_path, tmp_path / "spoiled.json", api.secret, "--url", address, "--max-examples", "10", "--seed", "1"
    )
    assert result.returncode == 1, result.stdout
    assert "failures" in result.stdout
