"""docs/container.md, Dockerfile, compose.yaml and deploy/kubernetes.yaml: they agree with each other and with the code.

The steps of compose.yaml run here without containers, on a PostgreSQL that asks for passwords over TCP; the image is
built and run by tests/deploy/test_image.py.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes_validate
import psycopg
import pytest
import yaml

from api.cli import EPILOG, parser
from api.postgres import embedded
from api.routes import LIVE, ROUTES
from api.server.settings import GRACE
from tests.documents.pages import ROOT, block, page
from tests.operations.guide import Site, initialise, number, sited
from tests.running.commands import LEDGER, environment, free_port, serving

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OBJECTS: dict[str, Any] = {
    found["kind"]: found for found in yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text())
}
PODS = {kind: OBJECTS[kind]["spec"]["template"]["spec"] for kind in ("Job", "Deployment")}
SETTINGS = {name for line in EPILOG.splitlines() for name in re.findall("[A-Z_]+", line[:20])}
DOCKERFILE = (ROOT / "Dockerfile").read_text()
HEALTH = next(route.path for route in ROUTES if route.function == "health")


def instruction(name: str) -> str:
    """The rest of the last instruction of that name in the Dockerfile."""
    return re.findall(rf"^{name} (.*)$", DOCKERFILE.replace("\\\n", " "), re.MULTILINE)[-1].strip()


def is_setting(name: str) -> bool:
    return name in SETTINGS or name.removeprefix("LEDGER_") in SETTINGS


def test_the_image_has_the_settings_that_the_code_and_the_page_have() -> None:
    given = dict(word.split("=", 1) for word in instruction("ENV").split())
    assert all(is_setting(name) for name in given if name != "PATH")
    assert given["LEDGER_DATA"] == instruction("VOLUME")
    assert given["LEDGER_PORT"] == instruction("EXPOSE") == "4000"
    assert LIVE in instruction("HEALTHCHECK")
    assert LIVE in page("container").read_text()
    user = instruction("USER").partition(":")[0]
    assert f"the user {user}," in page("container").read_text()
    assert {PODS[kind]["securityContext"]["runAsUser"] for kind in PODS} == {int(user)}
    assert f"uid={user},gid={user}" in SERVICES["service"]["tmpfs"][0]


def test_what_the_build_copies_is_there() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert {name for name in kept - {"wheels"} if not (ROOT / name).exists()} == set()
    assert "wheels/" in (ROOT / ".gitignore").read_text().splitlines()
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    packed = [*wheel["packages"], *wheel["force-include"]]
    assert {path.partition("/")[0] for path in packed} <= kept  # the build would leave out what is not there


@pytest.mark.parametrize("line", block("container", "sh", "docker run").replace("\\\n", "").splitlines())
def test_the_documented_containers_can_start(line: str) -> None:
    words = shlex.split(line)
    assert words[:2] == ["docker", "run"]
    options, arguments = words[2 : words.index("ledger:/var/lib/ledger") + 1], words
    assert f"ledger:{instruction('VOLUME')}" in options
    while arguments[0] != "ledger" or arguments[1:2] == ["--read-only"]:
        arguments = arguments[1:]
    if len(arguments) > 1:
        parser().parse_args(arguments[1:])
    else:
        assert json.loads(instruction("CMD")) == ["serve"]
        port = instruction("EXPOSE")
        assert f"127.0.0.1:{port}:{port}" in words
        assert int(words[words.index("--stop-timeout") + 1]) > GRACE + 5


def test_the_page_builds_the_image_that_compose_and_kubernetes_run() -> None:
    for text in (block("container", "sh", "docker build -t ledger"), block("container", "sh", "pip download")):
        assert text.splitlines()[-1].endswith("-t ledger .")
    names = {SERVICES[name]["image"] for name in ("migrate", "service")}
    names |= {container["image"] for pod in PODS.values() for container in pod["containers"]}
    assert names == {"ledger"}


def test_the_service_of_compose_waits_for_the_migrations_and_has_no_right() -> None:
    needs = SERVICES["service"]["depends_on"]
    assert needs["migrate"] == {"condition": "service_completed_successfully"}
    assert needs["database"] == SERVICES["migrate"]["depends_on"]["database"] == {"condition": "service_healthy"}
    for name in ("migrate", "service"):
        service = SERVICES[name]
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(is_setting(name) or name == "PGPASSWORD" for name in SERVICES["service"]["environment"])
    assert "ADMIN" not in json.dumps(SERVICES["service"])
    assert SERVICES["database"]["image"] == "postgres:18"
    assert int(SERVICES["service"]["stop_grace_period"].removesuffix("s")) > GRACE + 5


@dataclass(frozen=True)
class Composed:
    """compose.yaml with a database that runs at a port of this machine."""

    port: int
    given: dict[str, str]

    def environment(self, name: str) -> dict[str, str]:
        """The environment of a service, with the variables of the file .env."""
        found = {}
        for variable, value in SERVICES[name]["environment"].items():
            filled = re.sub(r"\$\{(\w+):\?\}", lambda match: self.given[match[1]], str(value))
            found[variable] = filled.replace("@database/", f"@127.0.0.1:{self.port}/")
        return found

    def run(self, name: str, *command: str) -> str:
        """Run a service to its end, or another command in its place."""
        words = list(command) or SERVICES[name]["command"]
        for volume in SERVICES[name]["volumes"]:
            source, target, _ = volume.split(":")
            words = [word.replace(f"={target}", f"={ROOT / source}") for word in words]
        program = f"{LEDGER.parent}:{embedded.binaries()}:/usr/bin:/bin"
        env = environment(**self.environment(name), PATH=program)
        done = subprocess.run(words, env=env, capture_output=True, text=True, cwd="/")
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def dotenv(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of the file .env that the page makes."""
    folder = tmp_path_factory.mktemp("checkout")
    lines = [line for line in block("container", "sh", "docker compose").splitlines() if "docker" not in line]
    if shutil.which("openssl") is None:
        pytest.skip("the page makes passwords with: apt-get install openssl")
    subprocess.run(["sh", "-e", "-c", "\n".join(lines)], cwd=folder, check=True)
    assert (folder / ".env").stat().st_mode & 0o077 == 0
    return dict(line.split("=", 1) for line in (folder / ".env").read_text().splitlines())


@pytest.fixture(scope="module")
def composed(dotenv: dict[str, str]) -> Iterator[Composed]:
    """A database as the image of PostgreSQL makes it: a superuser with a password, and an empty database."""
    with tempfile.TemporaryDirectory(prefix="ledger-") as path:
        Path(path).chmod(0o755)
        with sited(Path(path) / "site", 18) as site:
            port = free_port()
            listening(site, port, SERVICES["database"]["environment"], dotenv)
            yield Composed(port, dotenv)


def listening(site: Site, port: int, given: dict[str, str], dotenv: dict[str, str]) -> None:
    initialise(site)
    (variable,) = re.findall(r"\$\{(\w+):\?\}", given["POSTGRES_PASSWORD"])
    with site.connect("db", database="postgres") as superuser:
        superuser.execute(f"alter role postgres password '{dotenv[variable]}'")
        superuser.execute(f"create database {given['POSTGRES_DB']}")
    site.stop("db")
    with (site.main("db") / "postgresql.conf").open("a") as file:
        file.write(f"listen_addresses = '127.0.0.1'\nport = {port}\n")
    (site.main("db") / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
    site.start("db")


def test_the_steps_of_compose_lead_to_a_service(composed: Composed, dotenv: dict[str, str]) -> None:
    lines = [shlex.split(line) for line in block("container", "sh", "docker compose").splitlines() if "docker" in line]
    *runs, up = lines
    assert up == ["docker", "compose", "up", "--detach", "--wait", "service"]
    printed = ""
    for words in runs:
        assert words[:5] == ["docker", "compose", "run", "--rm", "migrate"]
        printed = composed.run("migrate", *words[5:])
    secret = printed.split()[-1]
    # `up` runs the step once more; another password takes effect.
    later = Composed(composed.port, dotenv | {"LEDGER_SERVICE_PASSWORD": "it's another: $1"})
    later.run("migrate")
    assert SERVICES["service"].get("command") is None
    with serving("serve", locked=True, **later.environment("service")) as service:
        assert service.answers()
        assert len(service.workers) == 2
        assert service.ask("GET", "/api/groups")[0] == 401
        authorization = {"Authorization": f"Bearer {secret}"}
        assert service.ask("POST", "/api/groups", {"name": "ETH"}, **authorization)[0] == 201
    old = composed.environment("service")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(old["DATABASE_URL"], password=old["PGPASSWORD"])


@pytest.mark.parametrize("kind", OBJECTS)
def test_kubernetes_accepts_each_object(kind: str) -> None:
    assert kubernetes_validate.validate(OBJECTS[kind], kubernetes_validate.latest_version(), strict=True)


def test_the_pods_of_kubernetes_have_no_right_and_known_settings() -> None:
    for pod in PODS.values():
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        parser().parse_args(container["args"])
        assert all(is_setting(variable["name"]) for variable in container["env"])
        assert "memory" in container["resources"]["limits"]
    assert "administrator" not in json.dumps(PODS["Deployment"])


def test_the_probes_of_kubernetes_ask_what_they_are_for() -> None:
    (container,) = PODS["Deployment"]["containers"]
    (port,) = container["ports"]
    assert port["containerPort"] == int(instruction("EXPOSE"))
    (offered,) = OBJECTS["Service"]["spec"]["ports"]
    probes = [container[f"{name}Probe"] for name in ("startup", "liveness", "readiness")]
    assert [probe["httpGet"]["path"] for probe in probes] == [LIVE, LIVE, HEALTH]
    assert {probe["httpGet"]["port"] for probe in probes} == {port["name"]} == {offered["targetPort"]}
    startup, _, readiness = probes
    wait = {action.option_strings[-1]: action.default for action in serve_options()}["--wait"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > int(wait)
    drain = int(next(variable["value"] for variable in container["env"] if variable["name"] == "LEDGER_DRAIN"))
    assert drain > readiness["periodSeconds"] * readiness["failureThreshold"] + readiness["timeoutSeconds"]
    text = " ".join(page("container").read_text().split())
    assert f"the {drain} seconds of `LEDGER_DRAIN`" in text
    assert PODS["Deployment"]["terminationGracePeriodSeconds"] >= drain + 30 >= drain + GRACE + 5


def serve_options() -> list[Any]:
    (commands,) = (
        action for action in parser()._actions if hasattr(action, "choices") and "serve" in (action.choices or ())
    )
    return [action for action in commands.choices["serve"]._actions if action.option_strings]


def test_the_objects_of_kubernetes_select_the_pods_and_nothing_else() -> None:
    labels = {kind: OBJECTS[kind]["spec"]["template"]["metadata"]["labels"] for kind in PODS}
    selectors = [
        OBJECTS["Deployment"]["spec"]["selector"]["matchLabels"],
        OBJECTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        OBJECTS["Service"]["spec"]["selector"],
    ]
    assert all(selector == labels["Deployment"] != labels["Job"] for selector in selectors)


def test_the_documented_commands_name_what_the_file_has() -> None:
    made = re.findall(r"secret generic (\S+) --from-literal=(\w+)=", block("container", "sh", "kubectl create secret"))
    references = [
        variable["valueFrom"]["secretKeyRef"]
        for pod in PODS.values()
        for container in pod["containers"]
        for variable in container["env"]
        if "valueFrom" in variable
    ]
    assert made == [(reference["name"], reference["key"]) for reference in references]
    script = block("container", "sh", "kubectl wait")
    job, deployment = (OBJECTS[kind]["metadata"] for kind in PODS)
    assert f"delete job {job['name']} " in script
    assert f"job/{job['name']}\n" in script
    assert f"deployment/{deployment['name']}\n" in script
    assert f"-l app.kubernetes.io/component={job['labels']['app.kubernetes.io/component']}\n" in script
    assert {name for name in re.findall(r"-f (\S+)", script) if not (ROOT / name).exists()} == set()


def test_the_documented_connections_are_those_of_the_file() -> None:
    of_a_worker = number(r"one for the metrics: (\d+) in all")
    replicas = (
        OBJECTS["Deployment"]["spec"]["replicas"]
        + OBJECTS["Deployment"]["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    )
    (container,) = PODS["Deployment"]["containers"]
    workers = int(next(variable["value"] for variable in container["env"] if variable["name"] == "LEDGER_WORKERS"))
    text = " ".join(page("container").read_text().split())
    assert f"{of_a_worker} connections for each worker" in text
    assert f"with two pods of two workers, {of_a_worker * replicas * workers} in all" in text
