"""A client that a public generator makes of the description can do the tutorial's tour in curl."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from api.resources import OPENAPI
from tests.openapi.completeness import operations

GENERATOR = Path(sys.executable).with_name("openapi-python-client")


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a package with the client."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "openapi.json").write_bytes(OPENAPI.read_bytes())
    (folder / "settings.json").write_text(json.dumps({"post_hooks": []}))  # it would format code that nobody reads
    options = ["--output-path", "generated_client", "--meta", "none", "--config", "settings.json", "--fail-on-warning"]
    result = subprocess.run(
        [GENERATOR, "generate", "--path", "openapi.json", *options],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    sys.path.insert(0, str(folder))
    yield "generated_client"
    sys.path.remove(str(folder))


def test_the_generator_understands_every_operation(generated, described):
    """It leaves out operations that it does not understand."""
    package = Path(importlib.import_module(generated).__file__).parent
    made = {file.stem for file in package.glob("api/*/*.py")} - {"__init__"}
    assert made == {operation["operationId"] for _, _, operation in operations(described)}


def test_the_tour_works_with_it(api, generated):
    def operation(name: str) -> ModuleType:
        return importlib.import_module(f"{generated}.api.{name}")

    models = importlib.import_module(f"{generated}.models")
    client_type = importlib.import_module(generated).AuthenticatedClient
    create, get, remove = (
        operation("groups.create_group"),
        operation("groups.get_group"),
        operation("groups.remove_group"),
    )
    join, leave = operation("participants.join_group"), operation("participants.exit_group")
    transfer, total = operation("transfers.transfer"), operation("groups.group_total")

    with client_type(base_url=f"http://127.0.0.1:{api.port}", token=api.secret) as client:
        assert operation("health.health").sync(client=client).data.status == "ok"
        group = create.sync(client=client, body=models.CreateGroupBody(name="a generated client")).data
        assert group.name == "a generated client"
        joined = {}
        for username in ("alice", "bob"):
            body = models.JoinGroupBody(username=username, amount=100)
            joined[username] = join.sync(group.id, client=client, body=body, idempotency_key=username).data
            again = join.sync_detailed(group.id, client=client, body=body, idempotency_key=username)
            assert again.headers["Idempotency-Replayed"] == "true"
            assert again.parsed.data == joined[username]
        alice, bob = joined["alice"].id, joined["bob"].id
        present = operation("participants.list_participants").sync(group.id, client=client, limit=1)
        assert [participant.username for participant in present.data] == ["alice"]
        assert f"after={alice}" in present.next_

        move = models.TransferBody(from_=bob, to=alice, amount="50")
        moved = transfer.sync_detailed(group.id, client=client, body=move)
        balances = (moved.parsed.data.to_participant.amount, moved.parsed.data.from_participant.amount)
        assert balances == (150, 50)
        entry = operation("entries.get_entry").sync(group.id, int(moved.headers["Ledger-Entry"]), client=client).data
        assert (entry.kind, entry.from_, entry.to, entry.metadata) == ("transfer", bob, alice, None)
        assert total.sync(group.id, client=client).data.group_total == 200
        assert total.sync(group.id, client=client, prefer="amounts=string").data.group_total == "200"

        refused = transfer.sync(group.id, client=client, body=models.TransferBody(from_=bob, to=alice, amount=500))
        assert isinstance(refused, models.InsufficientFunds)
        assert refused.errors.additional_properties == {"amount": ["exceeds the balance of 50"]}
        assert isinstance(remove.sync(group.id, client=client), models.GroupNotEmpty)
        for participant, held in ((alice, 150), (bob, 50)):
            body = models.ExitGroupBody()
            assert leave.sync(group.id, participant, client=client, body=body).data.final_amount == held
        assert remove.sync_detailed(group.id, client=client).status_code == 204
        assert isinstance(get.sync(group.id, client=client), models.NotFound)
