"""What runs a city of containers: compose, image, manifests, dashboard. Held against the programs, the settings and one another."""

from __future__ import annotations

import configparser
import fcntl
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import threading
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jsonschema
import kubernetes_validate
import pytest
import yaml
from pydantic import AliasChoices

from deploy import alive, generate
from deploy.grafana.delivery import PANELS
from jietong import up
from jietong.around.metrics import METRICS
from jietong.catalog import HEADS, RESEND, load
from jietong.cli.topics import REPLICAS
from jietong.delivery.runner import Consuming
from jietong.settings import Settings
from simulation import supervise
from simulation.city import SETTING_UP
from simulation.servers import software

ROOT = Path(__file__).parents[2]
DEPLOY, K8S = ROOT / "deploy", ROOT / "deploy" / "k8s"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
PROGRAMS = frozenset(up.PROGRAMS)
KUSTOMIZE = "v5.7.1"
COMPOSE_GO = "v2.9.1"
"""The library that reads compose files in docker compose 2.40; its schema is part of it."""
KUBERNETES = "1.33"
LEFT_ALONE = {"data", "host", "port", "member", "watchdog", "kafka_poll_interval", "log_cap", "real_data"}
"""Settings that neither file gives: the image sets the first three, the next three are right as they are, the embedded log and
tests have the rest."""


def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))


def services() -> dict[str, Any]:
    return compose()["services"]


def ours() -> dict[str, Any]:
    """The services of our image that go on running."""
    return {name: service for name, service in services().items() if service.get("command", [""])[0] == "run"}


def manifests(*names: str) -> list[dict[str, Any]]:
    """The resources of these files; of all that kustomization.yaml names, if none is given."""
    files = names or yaml.safe_load((K8S / "kustomization.yaml").read_text("utf-8"))["resources"]
    return [one for file in files for one in yaml.safe_load_all((K8S / file).read_text("utf-8"))]


def of_kind(kind: str, resources: Sequence[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {one["metadata"]["name"]: one for one in resources or manifests() if one["kind"] == kind}


def pod(resource: Mapping[str, Any]) -> dict[str, Any]:
    return resource["spec"]["template"]["spec"]


# -- the same programs everywhere ----------------------------------------------------------------------------------------
def folders() -> set[str]:
    mains = [*ROOT.glob("services/*/__main__.py"), *ROOT.glob("connectors/*/__main__.py")]
    return {".".join(file.relative_to(ROOT).parts[:2]) for file in mains}


def scraped() -> set[str]:
    [job, _] = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text("utf-8"))["scrape_configs"]
    return {target.removesuffix(":8440").replace("-", ".", 1) for target in job["static_configs"][0]["targets"]}


def supervised(folder: Path) -> configparser.RawConfigParser:
    """What `make city` tells its supervisor, of servers that need not be there."""
    servers = SimpleNamespace(
        kafka=SimpleNamespace(bootstrap="k:1"), postgres=SimpleNamespace(url="p"), registry=SimpleNamespace(url="r")
    )
    supervise.programs(folder, cast("Any", servers), folder)
    told = configparser.RawConfigParser()
    told.read(folder / "supervisord.conf", "utf-8")
    return told


def test_folders_supervisor_compose_kubernetes_and_prometheus_have_the_same_programs(tmp_path: Path) -> None:
    deployments = of_kind("Deployment", manifests("programs.yaml"))
    places = {
        "folders": folders(),
        "supervisor": {section[8:-2] for section in supervised(tmp_path).sections() if section.startswith("program:")},
        "compose": {service["command"][1] for service in ours().values()},
        "kubernetes": {pod(one)["containers"][0]["args"][1] for one in deployments.values()},
        "kafka users": {name.replace("-", ".", 1) for name in of_kind("KafkaUser")},
        "prometheus": scraped(),
    }
    assert {name: found for name, found in places.items() if found != PROGRAMS} == {}


def test_each_is_named_after_its_program() -> None:
    for name, service in ours().items():
        assert service["command"] == ["run", name.replace("-", ".", 1)]
    for name, one in of_kind("Deployment").items():
        container, labels = pod(one)["containers"][0], one["spec"]["template"]["metadata"]["labels"]
        assert (container["args"], labels["app.kubernetes.io/name"]) == (["run", name.replace("-", ".", 1)], name)
        assert one["spec"]["selector"]["matchLabels"] == {"app.kubernetes.io/name": name}
        assert secrets_of(one)["kafka_sasl_password"] == name


def secrets_of(resource: Mapping[str, Any]) -> dict[str, str]:
    """File under /run/secrets → the Secret it comes from; whole Secrets under their own name."""
    [volume] = [volume for volume in pod(resource)["volumes"] if volume["name"] == "secrets"]
    sources = [source["secret"] for source in volume["projected"]["sources"]]
    return {item["path"]: s["name"] for s in sources for item in s.get("items", [{"path": s["name"]}])}


def test_set_up_is_the_same_but_for_topics_which_strimzi_makes() -> None:
    [by_compose], [by_job] = services()["setup"]["command"], pod(of_kind("Job")["setup"])["containers"][0]["args"]
    steps = by_compose.split("; ")
    assert sorted(steps) == sorted(" ".join(["jietong", *command]) for command in SETTING_UP)
    assert by_job.split("; ") == [step for step in steps if "topics" not in step]
    assert of_kind("KafkaTopic").keys() == load().topics.keys()


# -- the same settings ---------------------------------------------------------------------------------------------------
def variables() -> dict[str, str]:
    """Every name a setting listens to → the setting."""
    names = {f"JIETONG_{name.upper()}": name for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        match field.validation_alias:
            case AliasChoices(choices=choices):
                names |= {str(choice).upper(): name for choice in choices}
            case str(alias):
                names[alias.upper()] = name
            case _:
                pass
    return names


def given() -> dict[str, set[str]]:
    """Where → the names of the settings given there, secrets among them; in Kubernetes also those that docs/deploying.md says."""
    [made] = yaml.safe_load((K8S / "kustomization.yaml").read_text("utf-8"))["configMapGenerator"]
    program, env = services()["services-hookup"], pod(manifests("pod.yaml")[0])["containers"][0]["env"]
    files = {*secrets_of(of_kind("Deployment")["services-hookup"]), *secret_keys()} - {"jietong", "kafka_ca.crt"}
    plain = {*(literal.partition("=")[0] for literal in made["literals"]), *(one["name"] for one in env)}
    return {
        "compose": {*program["environment"], *(secret.upper() for secret in program["secrets"])},
        "kubernetes": plain | {file.upper() for file in files},
    }


def secret_keys() -> list[str]:
    """The keys of the Secret `jietong`, as the document has them."""
    return re.findall(r"^\| `([a-z_]+)` \|", (ROOT / "docs/deploying.md").read_text("utf-8"), re.MULTILINE)


def test_every_variable_given_is_one_a_setting_listens_to(tmp_path: Path) -> None:
    known = {*variables(), "JIETONG_SECRETS_DIR"}
    supervisor = re.findall(r"(\w+)=\"", str(dict(supervised(tmp_path)["supervisord"])))
    everywhere = {**given(), "supervisor": set(supervisor)}
    assert "DATABASE_URL" in supervisor
    assert {where: names - known for where, names in everywhere.items() if names - known} == {}


def test_every_setting_is_given_or_left_alone_on_purpose() -> None:
    settings = variables()
    used = {settings[name] for names in given().values() for name in names if name in settings}
    assert set(Settings.model_fields) - used == LEFT_ALONE


def test_the_image_sets_what_containers_share() -> None:
    told = " ".join(arguments for word, arguments in instructions() if word == "ENV")
    assert {"JIETONG_DATA=/data", "JIETONG_HOST=0.0.0.0", "JIETONG_PORT=8440"} <= set(told.split())
    assert ours()["services-hookup"]["volumes"] == ["city:/data"]
    common = pod(manifests("pod.yaml")[0])["containers"][0]
    assert {mount["mountPath"] for mount in common["volumeMounts"]} == {"/run/secrets", "/data", "/tmp"}  # noqa: S108


# -- compose -------------------------------------------------------------------------------------------------------------
def test_compose_follows_its_schema() -> None:
    done = run_go("mod", "download", "-json", f"github.com/compose-spec/compose-go/v2@{COMPOSE_GO}")
    schema = json.loads((Path(json.loads(done)["Dir"]) / "schema/compose-spec.json").read_text("utf-8"))
    text = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", (ROOT / "docker-compose.yml").read_text("utf-8"))
    jsonschema.Draft7Validator(schema).validate(yaml.safe_load(text))


def test_a_program_starts_when_set_up_is_done_and_its_servers_are_healthy() -> None:
    servers = {"kafka": "service_healthy", "postgres": "service_healthy", "registry": "service_healthy"}
    for service in ours().values():
        wanted = {"setup": "service_completed_successfully", **servers}
        assert {name: on["condition"] for name, on in service["depends_on"].items()} == wanted
    assert {name: on["condition"] for name, on in services()["setup"]["depends_on"].items()} == servers
    waited = {name for service in services().values() for name in service.get("depends_on", ())}
    assert [name for name in waited - {"setup"} if "test" not in services()[name].get("healthcheck", {})] == []


def test_every_service_that_stays_has_a_health_check_and_a_memory_limit_and_comes_back() -> None:
    for name, service in services().items():
        assert "mem_limit" in service, name
        assert name == "setup" or (service["healthcheck"]["test"] and service["restart"] == "unless-stopped"), name


def test_nothing_is_published_but_on_loopback_and_servers_have_no_way_out() -> None:
    published = {name: service["ports"] for name, service in services().items() if "ports" in service}
    assert set(published) == {"services-hookup", "services-timeline", "prometheus", "grafana", "kafbat"}
    assert all(port.startswith("127.0.0.1:${") for ports in published.values() for port in ports)
    outside = {name for name, service in services().items() if service["networks"] != ["inside"]}
    assert outside == set(published)
    assert compose()["networks"]["inside"] == {"internal": True}


def test_the_profiles_hold_what_a_city_runs_without() -> None:
    by_profile = {name: service["profiles"] for name, service in services().items() if "profiles" in service}
    assert by_profile == {"kafka-exporter": ["obs"], "prometheus": ["obs"], "grafana": ["obs"], "kafbat": ["ui"]}


def test_programs_run_with_nothing_they_do_not_need() -> None:
    for service in [*ours().values(), services()["setup"]]:
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["tmpfs"] == ["/tmp"]  # noqa: S108
        assert "user" not in service  # the image's


def test_no_secret_stands_in_a_file() -> None:
    for name, service in services().items():
        for variable, value in dict[str, Any](service.get("environment", {})).items():
            secret = re.search("PASSWORD|SECRET|TOKEN", variable) and variable != "JIETONG_SECRETS_DIR"
            assert not secret or (variable.endswith("_FILE") and value.startswith("/run/secrets/")), (name, variable)
    assert not of_kind("Secret")


def test_every_image_comes_from_where_the_prefix_says_and_has_a_version() -> None:
    for service in services().values():
        assert re.fullmatch(rf"jietong:{VERSION}|\$\{{IMAGE_PREFIX:-\}}[a-z-]+/[a-z-]+:v?[0-9.]+", service["image"])
    assert compose()["x-jietong"]["build"]["args"] == {
        "IMAGE_PREFIX": "${IMAGE_PREFIX:-}",
        "PIP_INDEX_URL": "${PIP_INDEX_URL:-}",
    }


def test_servers_have_the_versions_that_are_tested() -> None:
    def tag(name: str) -> str:
        return services()[name]["image"].rpartition(":")[2]

    assert (tag("kafka"), tag("registry"), int(tag("postgres"))) == (software.KAFKA, software.APICURIO, software.POSTGRES)  # fmt: skip
    assert of_kind("Kafka")["city"]["spec"]["kafka"]["version"] == software.KAFKA
    [image] = yaml.safe_load((K8S / "kustomization.yaml").read_text("utf-8"))["images"]
    assert image == {"name": "jietong", "newTag": VERSION}


def test_every_file_that_is_mounted_is_there() -> None:
    for service in services().values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in compose()["volumes"], source
    assert (DEPLOY / "postgres/roles.sh").stat().st_mode & stat.S_IXUSR


def test_secrets_are_made_once_random_and_behind_a_closed_door(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"

    def made() -> dict[str, str]:
        subprocess.run(["sh", DEPLOY / "secrets.sh", folder], check=True, capture_output=True, umask=0)
        return {file.name: file.read_text("utf-8") for file in folder.iterdir()}

    first = made()
    declared = {Path(secret["file"]).name for secret in compose()["secrets"].values()}
    assert first.keys() == declared == compose()["secrets"].keys()
    assert made() == first
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o444}
    words = [re.findall(r"[0-9a-f]{40}", text) for text in first.values()]
    assert all(len(found) == 1 for found in words)
    assert len({found[0] for found in words}) == len(first) - 2, "the URL and the registry's file repeat their role's"
    assert {name for s in services().values() for name in s.get("secrets", ())} == declared


# -- the image -----------------------------------------------------------------------------------------------------------
def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def copied() -> list[tuple[str, str]]:
    """What the image takes from the tree → where it lies there."""
    found: list[tuple[str, str]] = []
    for word, arguments in instructions():
        if word == "COPY" and "--from" not in arguments:
            *sources, target = [part for part in arguments.split() if not part.startswith("--")]
            found += [(source, target) for source in sources]
    return found


def test_the_image_is_built_in_two_stages_with_checked_hashes_for_a_user_without_a_name() -> None:
    words = instructions()
    froms = [arguments for word, arguments in words if word == "FROM"]
    assert [f.startswith("${IMAGE_PREFIX}library/python:3.11-") for f in froms] == [True, True]
    [user] = [arguments for word, arguments in words if word == "USER"]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert pod(manifests("pod.yaml")[0])["securityContext"]["runAsUser"] == int(user.partition(":")[0])
    runs = " ".join(arguments for word, arguments in words if word == "RUN")
    assert "--require-hashes -r /tmp/requirements.lock" in runs
    assert not re.search(r"curl|wget|apt|http", runs)
    assert [word for word, _ in words].count("HEALTHCHECK") == 1
    assert not [word for word, _ in words if word == "ADD"]


def test_what_is_copied_is_there_and_not_ignored() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    let_in = [line[1:] for line in lines if line.startswith("!")]
    assert lines[1] == "**"
    for source, _ in copied():
        assert (ROOT / source).exists(), source
        assert any(fnmatch(source, pattern) for pattern in let_in), source
    assert sorted(let_in) == sorted(source for source, _ in copied())


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's /app, as the Dockerfile lays it out."""
    app = tmp_path_factory.mktemp("image") / "app"
    for source, target in copied():
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, app / target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return app


IMPORT = """
import importlib, json, pkgutil, sys
programs, absent = json.load(sys.stdin)
sys.modules |= dict.fromkeys(absent)  # an import of one fails, as where it is not installed
from jietong import adapters, around, catalog, city, cli, up
for room in (adapters, around, cli):
    for module in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
        importlib.import_module(module.name)
city.load("jiangmen", catalog.load())
for name in programs:
    up.wiring(name)
print(*(getattr(module, "__file__", None) for module in list(sys.modules.values())), sep="\\n")
"""


def test_what_the_image_holds_is_all_that_its_programs_need(laid_out: Path) -> None:
    shipped = locked("deploy/requirements.lock").keys() | {"jietong"}
    absent = [
        package
        for package, owners in metadata.packages_distributions().items()
        if not {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners} & shipped
    ]
    assert "hypothesis" in absent
    done = in_the_image(laid_out, "-c", IMPORT, say=json.dumps([sorted(PROGRAMS), absent]))
    assert done.returncode == 0, done.stderr
    files = [Path(line) for line in done.stdout.splitlines() if line]
    assert [file for file in files if file.is_relative_to(ROOT) and not file.is_relative_to(ROOT / ".venv")] == []
    assert len([file for file in files if file.is_relative_to(laid_out)]) > 100


def in_the_image(app: Path, *arguments: str, say: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-S", *arguments],  # -S: nothing of this tree, which is installed here
        env={"PYTHONPATH": f"{app}:{sysconfig.get_paths()['purelib']}"},
        cwd=app, input=say, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_command_of_the_image_is_jietong(laid_out: Path) -> None:
    assert in_the_image(laid_out, str(DEPLOY / "jietong"), "--version").stdout == f"jietong {VERSION}\n"


def locked(name: str) -> dict[str, str]:
    """Package → its entry: versions, markers and hashes."""
    entries = re.split(r"\n(?=\S)", (ROOT / name).read_text("utf-8").strip())
    return {entry.partition("==")[0].partition("[")[0]: entry for entry in entries}


def test_the_image_has_what_runs_and_nothing_that_only_tests_and_all_of_it_as_it_was_tested() -> None:
    tested, shipped = locked("requirements.lock"), locked("deploy/requirements.lock")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    named = {
        "runs": [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["city"]],
        "tests": project["dependency-groups"]["dev"],
    }
    wanted, dev = ({re.split(r"[^A-Za-z0-9_-]", one)[0].lower() for one in named[of]} for of in ("runs", "tests"))
    assert wanted <= shipped.keys()
    assert shipped.keys() & (dev - wanted) == set()
    for package, entry in shipped.items():
        assert entry.split("--hash")[1:], package
        versions = re.findall(r"==(\S+)", entry)
        assert versions == re.findall(r"==(\S+)", tested[package]), package


@pytest.fixture
def answering() -> Iterator[HTTPServer]:
    """A program whose /healthz answers what `code` says."""

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code[0] if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server, code = HTTPServer(("127.0.0.1", 0), Health), [200]
    server.code = code  # pyright: ignore[reportAttributeAccessIssue] — for the test to change
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_container_is_healthy_while_its_program_says_so(answering: Any) -> None:
    port = answering.server_address[1]
    assert alive.alive(port)
    answering.code[0] = 503
    assert not alive.alive(port)
    assert not alive.alive(1), "nothing listens there"


# -- what is made --------------------------------------------------------------------------------------------------------
def test_what_is_made_from_other_files_is_fresh() -> None:
    assert [name for name, text in generate.MADE.items() if (DEPLOY / name).read_text("utf-8") != text()] == [], (
        "run `python -m deploy.generate`"
    )


def test_a_program_may_read_what_it_reads_by_its_group_and_write_where_topics_name_it(tmp_path: Path) -> None:
    users = of_kind("KafkaUser")
    engine, pack = up.open_engine(Settings(data=tmp_path))  # pyright: ignore[reportCallIssue]
    try:
        for name in PROGRAMS:
            allowed = may(users[name.replace(".", "-")])
            for consumer in consumers(up.wiring(name).programs(engine, pack)):
                assert {*consumer.service.types, HEADS, RESEND} <= allowed["topic", "Read"], name
                groups = allowed["group", "Read"]
                assert any(consumer.service.name == g or (g.endswith(":") and consumer.service.name.startswith(g)) for g in groups)  # fmt: skip
            writes = {spec.topic for spec in load().topics.values() if {name.partition(".")[2], "*"} & {*spec.sources}}
            assert allowed["topic", "Write"] == writes
    finally:
        engine.close()


def consumers(programs: Sequence[Any]) -> list[Any]:
    return [m.consumer for program in programs for m in program.movements if isinstance(m, Consuming)]


def may(user: Mapping[str, Any]) -> dict[tuple[str, str], set[str]]:
    """(kind of resource, operation) → the names it is allowed for."""
    allowed: dict[tuple[str, str], set[str]] = {}
    for acl in user["spec"]["authorization"]["acls"]:
        for operation in acl["operations"]:
            allowed.setdefault((acl["resource"]["type"], operation), set()).add(acl["resource"]["name"])
    return allowed


# -- Kubernetes ----------------------------------------------------------------------------------------------------------
def run_go(*arguments: str, seconds: float = 300, **environment: str) -> str:
    """Skips in a sentence without Go; in CI that fails."""
    go = shutil.which("go")
    if go is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("Go is not here: it builds what checks this")
    done = subprocess.run(
        [go, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def built() -> list[dict[str, Any]]:
    """What `kustomize build` makes of the base."""
    done = subprocess.run([kustomize(), "build", K8S], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return list(yaml.safe_load_all(done.stdout))


def kustomize() -> Path:
    """That version, built once into a cache outside the tree (two minutes)."""
    cache = (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jietong-servers" / f"kustomize-{KUSTOMIZE}"
    )
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test processes want it at once
        if not (cache / "kustomize").exists():
            run_go("install", f"sigs.k8s.io/kustomize/kustomize/v5@{KUSTOMIZE}", seconds=580, GOBIN=str(cache))
    return cache / "kustomize"


@pytest.mark.timeout(600)
def test_kustomize_builds_the_base_and_kubernetes_knows_every_field(built: list[dict[str, Any]]) -> None:
    kinds = {one["kind"] for one in built}
    assert {"Deployment", "Job", "NetworkPolicy", "PodDisruptionBudget", "Kafka", "KafkaNodePool"} <= kinds
    for one in built:
        if "strimzi.io" not in one["apiVersion"]:
            kubernetes_validate.validate(one, KUBERNETES, strict=True)
        assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == "jietong"
        assert one["metadata"].get("labels", {})["app.kubernetes.io/part-of"] == "jietong"


@pytest.mark.timeout(600)
def test_every_pod_is_restricted(built: list[dict[str, Any]]) -> None:
    """Pod Security Standards, level restricted."""
    pods = [pod(one) for one in built if one["kind"] in ("Deployment", "Job")]
    assert len(pods) == len(PROGRAMS) + 1
    for spec in pods:
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        [container] = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert container["image"] == f"jietong:{VERSION}"
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()


@pytest.mark.timeout(600)
def test_every_program_has_its_probes_and_time_to_leave(built: list[dict[str, Any]]) -> None:
    for name, one in of_kind("Deployment", built).items():
        [container] = pod(one)["containers"]
        paths = {probe: container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
        assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
        assert pod(one)["terminationGracePeriodSeconds"] == 30
        alone = name.startswith("connectors-") or name == "services-timeline"
        assert one["spec"]["replicas"] == (1 if alone else 2)
        assert (name in of_kind("PodDisruptionBudget", built)) == (not alone)
        assert (one["spec"]["strategy"]["type"] == "Recreate") == name.startswith("connectors-")


@pytest.mark.timeout(600)
def test_nothing_goes_in_or_out_but_what_a_policy_names(built: list[dict[str, Any]]) -> None:
    policies = {name: one["spec"] for name, one in of_kind("NetworkPolicy", built).items()}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    doors = [rule for one in policies.values() for rule in one.get("ingress", ())]
    assert doors
    assert all(rule["from"] and rule["ports"] for rule in doors)


@pytest.fixture(scope="module")
def definitions() -> dict[str, jsonschema.Draft7Validator]:
    """Strimzi's own, made strict: a field that they do not name is an error, as `kubectl --validate=strict` has it."""
    folder = Path(os.environ.get("JIETONG_REAL_DATA", "nowhere")) / "conf-strimzi-crds" / "crds"
    if not folder.is_dir():
        pytest.skip("JIETONG_REAL_DATA names no folder with Strimzi's definitions")
    found: dict[str, jsonschema.Draft7Validator] = {}
    for file in folder.glob("*.yaml"):
        definition = yaml.safe_load(file.read_text("utf-8"))["spec"]
        [version] = [v for v in definition["versions"] if v["name"] == "v1"]
        found[definition["names"]["kind"]] = jsonschema.Draft7Validator(strict(version["schema"]["openAPIV3Schema"]))
    return found


def strict(schema: Any) -> Any:
    """The same schema, with each object closed to what it does not name; `metadata` is Kubernetes' own."""
    if isinstance(schema, list):
        return [strict(part) for part in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    made: dict[str, Any] = {key: strict(part) for key, part in cast("dict[str, Any]", schema).items()}
    opened = {
        "additionalProperties",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-int-or-string",
    } & made.keys()
    if made.get("type") == "object" and isinstance(made.get("properties"), dict) and not opened:
        made["additionalProperties"] = False
        if "spec" in made["properties"]:
            made["properties"]["metadata"] = {"type": "object"}
    return made


STRIMZI = ("Kafka", "KafkaNodePool", "KafkaTopic", "KafkaUser")


@pytest.mark.parametrize("kind", STRIMZI)
def test_strimzi_knows_every_field(kind: str, definitions: Mapping[str, jsonschema.Draft7Validator]) -> None:
    resources = of_kind(kind)
    assert resources
    for one in resources.values():
        assert one["apiVersion"] == "kafka.strimzi.io/v1"
        definitions[kind].validate(one)
        assert kind == "Kafka" or one["metadata"]["labels"]["strimzi.io/cluster"] == generate.CLUSTER


def test_its_definitions_let_their_own_examples_through_and_nothing_misspelt(
    definitions: Mapping[str, jsonschema.Draft7Validator],
) -> None:
    examples = Path(os.environ["JIETONG_REAL_DATA"]) / "conf-strimzi-crds" / "examples"
    for file in (examples / "kafka").glob("*.yaml"):
        for one in yaml.safe_load_all(file.read_text("utf-8")):
            definitions[one["kind"]].validate(one)
    for kind, path in (("Kafka", "kafka"), ("KafkaNodePool", "replicas"), ("KafkaTopic", "partitions"), ("KafkaUser", "authorization")):  # fmt: skip
        wrong = json.loads(json.dumps(next(iter(of_kind(kind).values()))))
        wrong["spec"][f"{path}s"] = wrong["spec"].pop(path)
        assert not definitions[kind].is_valid(wrong), kind


def test_kafka_keeps_two_copies_of_what_counts_and_its_pods_are_restricted_too() -> None:
    [kafka], [pool] = of_kind("Kafka").values(), of_kind("KafkaNodePool").values()
    config = kafka["spec"]["kafka"]["config"]
    assert (pool["spec"]["replicas"], config["min.insync.replicas"]) == (REPLICAS, 2)
    assert config["auto.create.topics.enable"] is False
    templates = [pool["spec"]["template"], kafka["spec"]["entityOperator"]["template"], kafka["spec"]["kafkaExporter"]["template"]]  # fmt: skip
    for template in templates:
        assert template["pod"]["securityContext"] == {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        contexts = [part["securityContext"] for name, part in template.items() if name != "pod"]
        assert contexts
        assert all(c == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}} for c in contexts)


# -- dashboard and alerts ------------------------------------------------------------------------------------------------
def queries() -> list[str]:
    rules = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text("utf-8"))["groups"][0]["rules"]
    return [*(ask.query for tile in PANELS for ask in tile.asks), *(rule["expr"] for rule in rules)]


def test_every_query_names_metrics_and_labels_that_are_told() -> None:
    told = {known.name: set(known.labels) for known in METRICS}
    for query in queries():
        names = set(re.findall(r"\b(?:jietong|kafka)_[a-z_]+\b", re.sub(r"\{.*?\}|by \(.*?\)", "", query)))
        assert names or query.startswith("up "), query
        plain = {name.removesuffix("_bucket") for name in names}
        assert plain <= told.keys(), query
        labels = {label for group in re.findall(r"by \((.*?)\)", query) for label in group.split(", ")}
        labels |= set(re.findall(r"[{,] *([a-z]+)=", query))
        for name in plain:
            buckets = {"le"} if f"{name}_bucket" in names else set[str]()
            assert labels <= told[name] | buckets, (name, labels)


def test_a_panel_says_what_it_shows_and_legends_name_labels_of_the_query() -> None:
    assert len({tile.title for tile in PANELS}) == len(PANELS)
    for tile in PANELS:
        assert tile.tells.endswith("."), tile.title
        for ask in tile.asks:
            outer = re.findall(r"by \((.*?)\)", ask.query)[:1]
            assert set(re.findall(r"\{\{(\w+)\}\}", ask.legend)) <= set(", ".join(outer).split(", ")), tile.title
