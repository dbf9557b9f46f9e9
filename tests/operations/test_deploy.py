"""What is in deploy/, held against the settings, the routes and the files that it speaks of: no daemon is needed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from proxy.cli import _parser
from proxy.settings import PREFIX, Settings, describe, load_settings
from proxy.settings_types import variable
from tests.rig import rig

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MANIFESTS = DEPLOY / "kubernetes"
SECRETS = "SECRETS_DIR"


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


COMPOSE = loaded(DEPLOY / "compose.yaml")
SERVED = COMPOSE["services"]["completion-proxy"]
OBJECTS: list[Any] = [
    found
    for path in sorted(MANIFESTS.glob("*.yaml"))
    if path.name != "kustomization.yaml"
    for found in yaml.safe_load_all(path.read_text("utf-8"))
]
UNIT: list[tuple[str, str]] = re.findall(
    r"^(\w+)=(.*)$", (DEPLOY / "completion-proxy.service").read_text("utf-8"), re.MULTILINE
)
README = (DEPLOY / "README.md").read_text("utf-8")


def of_kind(kind: str, name: str = "completion-proxy") -> Any:
    (found,) = [one for one in OBJECTS if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


DEPLOYMENT = of_kind("Deployment")["spec"]
POD = DEPLOYMENT["template"]["spec"]
CONTAINER = POD["containers"][0]


def of_unit(key: str) -> str:
    (value,) = [value for name, value in UNIT if name == key]
    return value


def environment_of(place: str) -> dict[str, str]:
    match place:
        case "compose":
            return dict(SERVED["environment"])
        case "pod":
            return {each["name"]: each["value"] for each in CONTAINER["env"]}
    assert place == "unit"
    pairs = (value.partition("=") for name, value in UNIT if name == "Environment")
    return {name: value for name, _, value in pairs if name.startswith(PREFIX)}


def secrets_of(place: str) -> dict[str, str]:
    """The files in the directory of secrets, as they come to be there."""
    match place:
        case "compose":
            files = {name: COMPOSE["secrets"][name]["file"] for name in SERVED["secrets"]}
            return {name: (DEPLOY / file).read_text("utf-8") for name, file in files.items()}
        case "pod":
            return dict.fromkeys(re.findall(r"--from-file=(\w+)", README), "of-the-test\n")
    identity, _, directory = of_unit("LoadCredential").partition(":")
    assert directory.endswith("/secrets/")
    return {f"{identity}_claude__api_key": "of-the-test\n"}


def settings_of(place: str, tmp_path: Path) -> Settings:
    """The settings of the proxy that runs there."""
    environ = environment_of(place)
    for name, content in secrets_of(place).items():
        (tmp_path / name).write_text(content)
    environ[PREFIX + SECRETS] = str(tmp_path)
    environ = {name: value.replace("%S", "/var/lib") for name, value in environ.items()}
    configs = {"pod": MANIFESTS / "completion-proxy.toml", "unit": DEPLOY / "completion-proxy.toml"}
    return load_settings(configs.get(place), environ)


PLACES = pytest.mark.parametrize("place", ["compose", "pod", "unit"])


@PLACES
def test_a_deployment_whose_settings_are_refused(place: str, tmp_path: Path) -> None:
    settings = settings_of(place, tmp_path)
    assert settings.claude.api_key.get_secret_value()
    assert settings.probes.targets
    assert (settings.host == settings.admin_host == "0.0.0.0") is (place != "unit")


def test_secrets_looked_for_where_they_are_not_mounted() -> None:
    assert environment_of("compose")[PREFIX + SECRETS] == "/run/secrets"
    assert environment_of("unit")[PREFIX + SECRETS] == "%d"
    (mount,) = [each for each in CONTAINER["volumeMounts"] if each["name"] == "secrets"]
    assert environment_of("pod")[PREFIX + SECRETS] == mount["mountPath"]


def test_a_variable_that_is_no_setting() -> None:
    known = {row.variable for row in describe()}
    for path in [path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".lock"]:
        named = set(re.findall(rf"{PREFIX}[A-Z][A-Z_]*[A-Z]", path.read_text("utf-8")))
        assert named <= known, path


def test_a_demo_that_asks_for_a_real_secret() -> None:
    assert all(content.startswith("simulated-") for content in secrets_of("compose").values())


def _writable(place: str) -> list[str]:
    match place:
        case "compose":
            mounts = [volume.split(":") for volume in SERVED["volumes"]]
            return [parts[1] for parts in mounts if parts[-1] != "ro"]
        case "pod":
            return [each["mountPath"] for each in CONTAINER["volumeMounts"] if not each.get("readOnly")]
    return [f"/var/lib/{of_unit('StateDirectory')}"]


@PLACES
def test_a_journal_that_cannot_be_written(place: str, tmp_path: Path) -> None:
    journal = settings_of(place, tmp_path).journal_file
    assert journal is not None
    assert str(PurePosixPath(journal).parent) in _writable(place)
    if place != "unit":  # the volume takes its owner from the image
        assert f" {journal.parent}\n" in (DEPLOY / "Dockerfile").read_text("utf-8")


def _seconds(text: str) -> float:
    return float(text.removesuffix("s"))


@PLACES
def test_requests_cut_off_before_they_are_drained(place: str, tmp_path: Path) -> None:
    pause = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"] if place == "pod" else 0
    granted = {
        "compose": _seconds(SERVED["stop_grace_period"]),
        "pod": POD["terminationGracePeriodSeconds"],
        "unit": _seconds(of_unit("TimeoutStopSec")),
    }
    assert granted[place] - pause >= settings_of(place, tmp_path).drain_seconds + 5


@pytest.mark.parametrize(
    "command",
    [
        CONTAINER["args"],
        COMPOSE["services"]["simulator"]["command"],
        of_unit("ExecStart").split()[1:],
        *(line.split() for line in re.findall(r"-- completion-proxy (.+)$", README, re.MULTILINE)),
    ],
)
def test_a_command_that_the_proxy_does_not_know(command: list[str]) -> None:
    assert _parser().parse_args(command).run


def test_a_config_file_that_is_not_where_it_is_read() -> None:
    (mount,) = [each for each in CONTAINER["volumeMounts"] if each["name"] == "config"]
    (made,) = loaded(MANIFESTS / "kustomization.yaml")["configMapGenerator"]
    (volume,) = [each for each in POD["volumes"] if each["name"] == "config"]
    assert CONTAINER["args"][-1] == f"{mount['mountPath']}/{made['files'][0]}"
    assert volume["configMap"]["name"] == made["name"]
    assert (MANIFESTS / made["files"][0]).is_file()
    assert of_unit("ExecStart").split()[-1] == "/etc/completion-proxy/completion-proxy.toml"


def test_an_override_that_is_ended_by_applying_the_manifests_again_or_never_arrives() -> None:
    (mount,) = [each for each in CONTAINER["volumeMounts"] if each["name"] == "override"]
    (volume,) = [each for each in POD["volumes"] if each["name"] == "override"]
    file = PurePosixPath(environment_of("pod")[variable("override_file")])
    assert str(file.parent) == mount["mountPath"]
    assert "subPath" not in mount
    assert volume["configMap"]["optional"]
    name = volume["configMap"]["name"]
    assert name not in {one["metadata"]["name"] for one in OBJECTS}
    assert f"configmap {name} --from-literal={file.name}=claude" in README


def test_ports_that_lead_nowhere(tmp_path: Path) -> None:
    settings = settings_of("pod", tmp_path)
    ports = {"http": settings.port, "admin": settings.admin_port}
    assert {each["name"]: each["containerPort"] for each in CONTAINER["ports"]} == ports
    services = [one for one in OBJECTS if one["kind"] == "Service"]
    assert {port["targetPort"] for one in services for port in one["spec"]["ports"]} == ports.keys()
    rules = of_kind("NetworkPolicy")["spec"]["ingress"]
    assert {port["port"] for rule in rules for port in rule["ports"]} == ports.keys()
    assert f"EXPOSE {settings.port} {settings.admin_port}\n" in (DEPLOY / "Dockerfile").read_text("utf-8")
    assert [port.split(":")[-1] for port in SERVED["ports"]] == [str(port) for port in ports.values()]


def test_a_simulator_or_a_proxy_that_the_other_services_look_for_elsewhere(tmp_path: Path) -> None:
    settings = settings_of("compose", tmp_path)
    simulator = COMPOSE["services"]["simulator"]
    options = _parser().parse_args(simulator["command"])
    assert settings.vertex.base_url == f"http://simulator:{options.vertex_port}"
    assert settings.claude.base_url == f"http://simulator:{options.claude_port}"
    assert options.host == "0.0.0.0"
    scraped = loaded(ROOT / "grafana/prometheus/prometheus.yml")["scrape_configs"][0]["static_configs"][0]["targets"]
    assert scraped == [f"completion-proxy:{settings.admin_port}"]


async def test_probes_of_paths_that_are_not_served() -> None:
    probes = [CONTAINER[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
    scraped = of_kind("ServiceMonitor")["spec"]["endpoints"]
    assert {probe["port"] for probe in [*probes, *scraped]} == {"admin"}
    async with rig() as running:
        for each in [*probes, *scraped]:
            assert (await running.admin(each["path"]))[0] == 200


def test_selectors_that_choose_nothing() -> None:
    labels = DEPLOYMENT["template"]["metadata"]["labels"].items()
    assert DEPLOYMENT["selector"]["matchLabels"].items() <= labels
    for one in [one for one in OBJECTS if one["kind"] == "Service"]:
        assert one["spec"]["selector"].items() <= labels
    assert of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"].items() <= labels
    assert of_kind("NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items() <= labels
    for spread in POD["topologySpreadConstraints"]:
        assert spread["labelSelector"]["matchLabels"].items() <= labels
    monitored = of_kind("ServiceMonitor")["spec"]["selector"]["matchLabels"].items()
    (common,) = loaded(MANIFESTS / "kustomization.yaml")["labels"]
    services = [one for one in OBJECTS if one["kind"] == "Service"]
    chosen = [one for one in services if monitored <= (common["pairs"] | one["metadata"].get("labels", {})).items()]
    assert [one["metadata"]["name"] for one in chosen] == ["completion-proxy-admin"]


def test_a_manifest_that_is_not_applied() -> None:
    listed = loaded(MANIFESTS / "kustomization.yaml")["resources"]
    assert {*listed, "kustomization.yaml"} == {path.name for path in MANIFESTS.glob("*.yaml")}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_manifests_that_do_not_build() -> None:
    command = ["kubectl", "kustomize", str(MANIFESTS)]
    built = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    (deployment,) = [one for one in yaml.safe_load_all(built.stdout) if one["kind"] == "Deployment"]
    (config,) = [each for each in deployment["spec"]["template"]["spec"]["volumes"] if each["name"] == "config"]
    # By its content, so that a change of it rolls the pods.
    assert re.fullmatch(r"completion-proxy-\w{10}", config["configMap"]["name"])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
def test_a_unit_that_systemd_does_not_understand(tmp_path: Path) -> None:
    text = (DEPLOY / "completion-proxy.service").read_text("utf-8")
    unit = tmp_path / "completion-proxy.service"
    unit.write_text(text.replace("ExecStart=/opt/completion-proxy/bin/completion-proxy ", "ExecStart=/bin/echo "))
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    verified = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "completion-proxy" not in verified.stderr, verified.stderr
    assert of_unit("RestartPreventExitStatus") == "2"


def test_more_rights_than_are_needed() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
    assert POD["securityContext"]["runAsNonRoot"]
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not POD["automountServiceAccountToken"]


def test_a_mount_of_what_is_not_there() -> None:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (DEPLOY / source).is_dir() if source.startswith(".") else source in COMPOSE["volumes"], volume
    grafana = COMPOSE["services"]["grafana"]
    home = PurePosixPath(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert f"../grafana/dashboards:{home.parent}:ro" in grafana["volumes"]
    assert (ROOT / "grafana/dashboards" / home.name).is_file()
