"""Check the files in deploy/ with the tools that read them, and by single facts that no tool checks."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from exporter.core.shard import Shard, chosen

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "kubernetes"
SHARDED = DEPLOY / "kubernetes-sharded"
LASTING = DEPLOY / "kubernetes-state"
RULES = DEPLOY / "prometheus" / "rules"
KUBERNETES = "1.34"
PORT = 10047

RECOMMENDED_LABELS = {
    f"app.kubernetes.io/{name}"
    for name in ("name", "instance", "version", "component", "part-of", "managed-by")
}
# The contract's keys by the place they stand at; a list's items stand at the list's own place.
CONFIG_KEYS = {
    (): {"poll", "metrics", "state", "projects"},
    ("poll",): {"interval", "active_interval", "chunk_size", "concurrency", "timeout", "max_age"},
    ("metrics",): {
        "run_status_series",
        "stage_status_series",
        "run_info_labels",
        "run_histogram",
        "stage_histogram",
        "run_duration_buckets",
        "stage_duration_buckets",
        "created_series",
    },
    ("state",): {"path"},
    ("projects",): {
        "name",
        "provider",
        "region",
        "endpoint",
        "project_id",
        "stage_time_zone",
        "rate_limit",
        "auth",
        "pipelines",
    },
    ("projects", "rate_limit"): {"requests_per_second", "burst"},
    ("projects", "auth"): {
        "method",
        "access_key",
        "access_key_file",
        "secret_key",
        "secret_key_file",
        "security_token",
        "security_token_file",
        "iam_project_id",
        "token",
        "token_file",
    },
    ("projects", "pipelines"): {"id", "name"},
}


def run(*command: str | Path) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def kinds(manifests: list[dict[str, Any]]) -> list[str]:
    return sorted(manifest["kind"] for manifest in manifests)


def of_kind(manifests: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = (manifest for manifest in manifests if manifest["kind"] == kind)
    return found


def keys_within(node: object, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield place, key
            yield from keys_within(value, (*place, key))
    elif isinstance(node, list):
        for item in node:
            yield from keys_within(item, place)


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None and os.environ.get("CI"):
        pytest.fail("promtool is not installed: the rules must not go untested in CI")
    return found or pytest.skip("promtool is not installed")


@pytest.fixture(scope="module")
def rendered() -> list[dict[str, Any]]:
    """Render the base as a cluster gets it."""
    kubectl = shutil.which("kubectl") or pytest.skip("kubectl is not installed")
    return list(yaml.safe_load_all(run(kubectl, "kustomize", BASE)))


@pytest.fixture(scope="module")
def sharded() -> list[dict[str, Any]]:
    """Render the variant with several exporters."""
    kubectl = shutil.which("kubectl") or pytest.skip("kubectl is not installed")
    return list(yaml.safe_load_all(run(kubectl, "kustomize", SHARDED)))


@pytest.fixture(scope="module")
def lasting() -> list[dict[str, Any]]:
    """Render the variant with a state that outlives the pod."""
    kubectl = shutil.which("kubectl") or pytest.skip("kubectl is not installed")
    return list(yaml.safe_load_all(run(kubectl, "kustomize", LASTING)))


@pytest.fixture(scope="module")
def plain() -> list[dict[str, Any]]:
    """Read the files of the base, for tests that do not need kustomize."""
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    return [yaml.safe_load((BASE / name).read_text()) for name in listed]


@pytest.fixture(scope="module")
def manifests(request: pytest.FixtureRequest, plain: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rendered base or, without kubectl, its files."""
    return request.getfixturevalue("rendered") if shutil.which("kubectl") else plain


@pytest.fixture(scope="module")
def pod(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = of_kind(manifests, "Deployment")["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["containers"]
    assert "initContainers" not in pod
    return dict(only)


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return dict(yaml.safe_load((BASE / "config.yaml").read_text()))


@pytest.fixture(scope="module")
def dockerfile() -> list[tuple[str, str]]:
    """Return instruction and argument of each line, with continued lines joined."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(name, argument.strip()) for name, _, argument in (line.partition(" ") for line in lines)]


def argument(dockerfile: list[tuple[str, str]], instruction: str) -> str:
    """Return the argument of the last such instruction, which is the effective one."""
    return [value for name, value in dockerfile if name == instruction][-1]


# Prometheus


def test_prometheus_accepts_the_configuration_and_its_rules(promtool: str) -> None:
    assert "2 rule files found" in run(promtool, "check", "config", DEPLOY / "prometheus" / "prometheus.yml")


def test_commented_scrape_configuration_is_valid(promtool: str, tmp_path: Path) -> None:
    """Kubernetes discovery is removed first, because not every promtool supports it."""
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    prometheus = yaml.safe_load(text)
    prometheus["rule_files"] = [str(file) for file in sorted(RULES.glob("*.yml"))]
    commented = re.sub(r"^    # (?=  |\w+_configs:)", "    ", text, flags=re.MULTILINE)
    (whole,) = yaml.safe_load(commented)["scrape_configs"]
    assert whole.pop("kubernetes_sd_configs") == [{"role": "pod"}]
    assert {"static_configs", "dns_sd_configs", "relabel_configs"} <= set(whole)
    prometheus["scrape_configs"] = [whole]
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(prometheus))
    run(promtool, "check", "config", file)


def test_a_replaced_pod_keeps_the_instance_label(sharded: list[dict[str, Any]]) -> None:
    """The label comes from the Deployment, or from the name of a numbered pod; a new value would reset counters."""
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    found = re.search(
        r"#   - source_labels: \[__meta_kubernetes_pod_name\]\n    #     regex: (.+)\n    #     target_label: instance\n",
        text,
    )
    assert found
    name = of_kind(sharded, "StatefulSet")["metadata"]["name"]
    assert re.fullmatch(found[1], f"{name}-2")
    assert not re.fullmatch(found[1], f"{name}-5d4f8c9b7-24567")
    assert "target_label: pod" not in text


def test_the_scraped_target_is_the_service(manifests: list[dict[str, Any]]) -> None:
    prometheus = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (job,) = prometheus["scrape_configs"]
    assert job["job_name"] == "pipeline-exporter"
    assert job["static_configs"] == [
        {"targets": [f"{of_kind(manifests, 'Service')['metadata']['name']}:{PORT}"]}
    ]


# Kubernetes


def test_the_base_is_complete_and_holds_no_secret(rendered: list[dict[str, Any]]) -> None:
    assert kinds(rendered) == ["ConfigMap", "Deployment", "Service", "ServiceAccount"]
    assert not any("namespace" in manifest["metadata"] for manifest in rendered)


def test_kubernetes_accepts_every_manifest(manifests: list[dict[str, Any]]) -> None:
    examples = yaml.safe_load_all((BASE / "secret.example.yaml").read_text())
    for manifest in [*manifests, *examples]:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_every_object_and_the_pod_have_the_recommended_labels(rendered: list[dict[str, Any]]) -> None:
    template = of_kind(rendered, "Deployment")["spec"]["template"]
    for labelled in [*rendered, template]:
        assert set(labelled["metadata"]["labels"]) == RECOMMENDED_LABELS


def test_the_version_is_that_of_the_exporter(rendered: list[dict[str, Any]]) -> None:
    found = re.search(
        r'^__version__ = "(.+)"$', (ROOT / "exporter" / "__init__.py").read_text(), re.MULTILINE
    )
    assert found
    deployment = of_kind(rendered, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"pipeline-exporter:{found[1]}"
    assert deployment["metadata"]["labels"]["app.kubernetes.io/version"] == found[1]
    assert f"pipeline-exporter:{found[1]} ." in (DEPLOY / "README.md").read_text()


def test_two_exporters_never_overlap(manifests: list[dict[str, Any]]) -> None:
    spec = of_kind(manifests, "Deployment")["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}
    assert "revisionHistoryLimit" in spec


def test_the_pod_meets_the_restricted_standard(pod: dict[str, Any], container: dict[str, Any]) -> None:
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    kinds_of_volumes = {kind for volume in pod["volumes"] for kind in set(volume) - {"name"}}
    assert kinds_of_volumes == {"configMap", "secret", "emptyDir"}


def test_the_pod_has_no_access_to_the_cluster(manifests: list[dict[str, Any]], pod: dict[str, Any]) -> None:
    account = of_kind(manifests, "ServiceAccount")
    assert pod["serviceAccountName"] == account["metadata"]["name"]
    assert pod["automountServiceAccountToken"] is False
    assert account["automountServiceAccountToken"] is False


def test_service_variables_do_not_reach_the_flags(pod: dict[str, Any]) -> None:
    """A Service named pipeline-exporter sets PIPELINE_EXPORTER_PORT, and flags are read from PIPELINE_EXPORTER_*."""
    assert pod["enableServiceLinks"] is False


def test_the_pod_has_time_to_stop_and_a_memory_limit(pod: dict[str, Any], container: dict[str, Any]) -> None:
    assert pod["terminationGracePeriodSeconds"] > 10
    assert set(container["resources"]["requests"]) == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]


def test_probes_use_the_health_and_readiness_paths(container: dict[str, Any]) -> None:
    paths = {
        probe: container[probe]["httpGet"]["path"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert paths == {
        "startupProbe": "/-/healthy",
        "livenessProbe": "/-/healthy",
        "readinessProbe": "/-/ready",
    }
    assert {container[probe]["httpGet"]["port"] for probe in paths} == {"http-metrics"}


def test_one_port_from_the_image_to_the_service(
    manifests: list[dict[str, Any]], container: dict[str, Any], dockerfile: list[tuple[str, str]]
) -> None:
    assert container["ports"] == [{"name": "http-metrics", "containerPort": PORT, "protocol": "TCP"}]
    assert argument(dockerfile, "EXPOSE") == str(PORT)
    service = of_kind(manifests, "Service")["spec"]
    assert service["ports"] == [
        {"name": "http-metrics", "port": PORT, "targetPort": "http-metrics", "protocol": "TCP"}
    ]
    deployment = of_kind(manifests, "Deployment")["spec"]
    assert deployment["selector"]["matchLabels"] == service["selector"]
    assert service["selector"].items() <= deployment["template"]["metadata"]["labels"].items()


def test_config_and_secrets_are_mounted_as_directories(
    manifests: list[dict[str, Any]], pod: dict[str, Any], container: dict[str, Any]
) -> None:
    """A file mounted by subPath or items misses updates."""
    keys = {key for _, key in keys_within(manifests)}
    assert not {"subPath", "subPathExpr", "items"} & keys
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mounts[name]: next(iter(set(volume) - {"name"})) for name, volume in volumes.items()} == {
        "/etc/pipeline-exporter": "configMap",
        "/run/secrets/codearts": "secret",
        "/run/secrets/flow": "secret",
        "/var/lib/pipeline-exporter": "emptyDir",
    }
    writable = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["/var/lib/pipeline-exporter"]


def test_the_state_is_on_its_volume(
    config: dict[str, Any], container: dict[str, Any], dockerfile: list[tuple[str, str]]
) -> None:
    """The root file system is read-only. The image has the folder too, for use without Kubernetes."""
    (mount,) = (mount for mount in container["volumeMounts"] if mount["name"] == "state")
    path = Path(config["state"]["path"])
    assert str(path.parent) == mount["mountPath"]
    assert f"install -d -o 65532 -g 65532 {path.parent} " in argument(dockerfile, "RUN")
    assert str(path.parent) in (DEPLOY / "README.md").read_text()


def test_a_changed_config_does_not_replace_the_pod(rendered: list[dict[str, Any]]) -> None:
    """The pod reloads it: the name of the ConfigMap has no hash of its content."""
    config_map = of_kind(rendered, "ConfigMap")
    name = config_map["metadata"]["name"]
    assert name == "pipeline-exporter"
    volumes = of_kind(rendered, "Deployment")["spec"]["template"]["spec"]["volumes"]
    assert [volume["configMap"]["name"] for volume in volumes if "configMap" in volume] == [name]
    assert config_map["data"] == {"config.yaml": (BASE / "config.yaml").read_text()}


def test_secrets_agree_in_pod_example_readme_and_config(pod: dict[str, Any]) -> None:
    volumes = {
        volume["secret"]["secretName"]: volume["name"] for volume in pod["volumes"] if "secret" in volume
    }
    readme = (DEPLOY / "README.md").read_text()
    paths = set(re.findall(r"_file: (\S+)", (BASE / "config.yaml").read_text()))
    provided = set()
    for example in yaml.safe_load_all((BASE / "secret.example.yaml").read_text()):
        name, keys = example["metadata"]["name"], set(example["stringData"])
        (command,) = re.findall(rf"create secret generic {name} (.*)", readme)
        assert set(re.findall(r"--from-file=(\w+)=", command)) == keys
        volume = volumes.pop(name)
        provided |= {f"/run/secrets/{volume}/{key}" for key in keys}
        assert set(example["stringData"].values()) == {"REPLACE-ME"}
    assert provided == paths
    assert volumes == {}


def test_commented_project_of_the_other_cloud_is_valid(tmp_path: Path) -> None:
    text = (BASE / "config.yaml").read_text()
    file = tmp_path / "config.yaml"
    file.write_text(re.sub(r"^  # (?=- name: example-flow|  )", "  ", text, flags=re.MULTILINE))
    assert len(yaml.safe_load(file.read_text())["projects"]) == 2
    run(sys.executable, "-m", "exporter", "check-config", file)


def test_the_config_uses_known_keys_only(config: dict[str, Any]) -> None:
    unknown = [(*place, key) for place, key in keys_within(config) if key not in CONFIG_KEYS.get(place, ())]
    assert not unknown


def test_the_exporter_accepts_the_config() -> None:
    pytest.importorskip("exporter.cli")
    run(sys.executable, "-m", "exporter", "check-config", BASE / "config.yaml")


# Kubernetes, several exporters


def test_the_variant_is_valid_and_has_numbered_pods(sharded: list[dict[str, Any]]) -> None:
    assert kinds(sharded) == ["ConfigMap", "Service", "ServiceAccount", "StatefulSet"]
    for manifest in sharded:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_there_are_as_many_pods_as_shards(
    sharded: list[dict[str, Any]], dockerfile: list[tuple[str, str]]
) -> None:
    """Each pod reads its index from its name, and every index has a pod."""
    stateful_set = of_kind(sharded, "StatefulSet")
    (container,) = stateful_set["spec"]["template"]["spec"]["containers"]
    *own, flag = container["args"]
    assert own == json.loads(argument(dockerfile, "CMD"))
    name, _, total = flag.partition("=")
    assert name == "--shard.total"
    pods = [
        f"{stateful_set['metadata']['name']}-{place}" for place in range(stateful_set["spec"]["replicas"])
    ]
    shards = [chosen(None, int(total), pod) for pod in pods]
    assert shards == [Shard(index, int(total)) for index in range(int(total))]
    assert f"{flag}`" in (DEPLOY / "README.md").read_text()


def test_a_numbered_pod_runs_the_container_of_the_base(
    sharded: list[dict[str, Any]], rendered: list[dict[str, Any]]
) -> None:
    """Only the number of shards and the state volume differ."""
    template = copy.deepcopy(of_kind(sharded, "StatefulSet")["spec"]["template"])
    base = copy.deepcopy(of_kind(rendered, "Deployment")["spec"]["template"])
    (container,) = template["spec"]["containers"]
    del container["args"]
    assert volumes_without_state(base["spec"]) == template["spec"].pop("volumes")
    del base["spec"]["volumes"]
    assert template == base
    for kind in ("ConfigMap", "ServiceAccount"):
        assert of_kind(sharded, kind) == of_kind(rendered, kind)


def test_each_shard_has_a_volume_of_its_own(sharded: list[dict[str, Any]]) -> None:
    spec = of_kind(sharded, "StatefulSet")["spec"]
    (claim,) = spec["volumeClaimTemplates"]
    (container,) = spec["template"]["spec"]["containers"]
    assert claim["metadata"]["name"] in {mount["name"] for mount in container["volumeMounts"]}
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_each_shard_is_a_target_of_its_own(sharded: list[dict[str, Any]]) -> None:
    """The name of the Service resolves to the address of every pod, ready or not."""
    service = of_kind(sharded, "Service")
    stateful_set = of_kind(sharded, "StatefulSet")["spec"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert stateful_set["serviceName"] == service["metadata"]["name"]
    assert stateful_set["selector"]["matchLabels"] == service["spec"]["selector"]
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    found = re.search(r"# dns_sd_configs:\n( +#   .*\n)+", text)
    assert found
    (discovery,) = yaml.safe_load(re.sub(r"^ +# ?|^# ", "", found[0], flags=re.MULTILINE))["dns_sd_configs"]
    (port,) = service["spec"]["ports"]
    name = f"_{port['name']}._{port['protocol'].lower()}.{service['metadata']['name']}"
    assert discovery == {"names": [name], "type": "SRV"}


# Kubernetes, a state that lasts


def volumes_without_state(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [volume for volume in spec["volumes"] if volume["name"] != "state"]


def test_the_state_variant_is_the_base_with_a_claim(
    lasting: list[dict[str, Any]], rendered: list[dict[str, Any]]
) -> None:
    """The strategy stays the same: two pods must not use the volume at once."""
    assert kinds(lasting) == sorted([*kinds(rendered), "PersistentVolumeClaim"])
    for manifest in lasting:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    deployment = copy.deepcopy(of_kind(lasting, "Deployment"))
    base = copy.deepcopy(of_kind(rendered, "Deployment"))
    spec, base_spec = deployment["spec"]["template"]["spec"], base["spec"]["template"]["spec"]
    claim = of_kind(lasting, "PersistentVolumeClaim")
    state = {"name": "state", "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}
    assert state in spec["volumes"]
    assert volumes_without_state(spec) == volumes_without_state(base_spec)
    del spec["volumes"], base_spec["volumes"]
    assert deployment == base
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    for kind in ("ConfigMap", "Service", "ServiceAccount"):
        assert of_kind(lasting, kind) == of_kind(rendered, kind)


def test_the_claim_has_the_labels_of_the_other_objects(
    lasting: list[dict[str, Any]], rendered: list[dict[str, Any]]
) -> None:
    """Except the version, because the claim stays when the version changes."""
    claim = of_kind(lasting, "PersistentVolumeClaim")
    labels = of_kind(rendered, "Service")["metadata"]["labels"]
    assert claim["metadata"]["labels"] == {
        name: value for name, value in labels.items() if name != "app.kubernetes.io/version"
    }
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]


# Image


def test_both_stages_share_one_base(dockerfile: list[tuple[str, str]]) -> None:
    """The venv refers to the path of the interpreter, which must exist in both."""
    bases = [value.split(" ")[0] for name, value in dockerfile if name == "FROM"]
    assert bases == ["${PYTHON_IMAGE}", "${PYTHON_IMAGE}"]
    first_name, first = dockerfile[0]
    assert first_name == "ARG"
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.\d+(\.\d+)?-slim(-\w+)?", first)


def test_the_image_runs_the_exporter_directly_and_not_as_root(dockerfile: list[tuple[str, str]]) -> None:
    assert re.fullmatch(r"65532(:65532)?", argument(dockerfile, "USER"))
    assert json.loads(argument(dockerfile, "ENTRYPOINT")) == ["pipeline-exporter"]
    environment = argument(dockerfile, "ENV").split()
    assert {"PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1"} <= set(environment)


def test_the_image_reads_the_config_where_kubernetes_mounts_it(
    dockerfile: list[tuple[str, str]], container: dict[str, Any]
) -> None:
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert json.loads(argument(dockerfile, "CMD")) == ["run", f"--config.file={mounts['config']}/config.yaml"]
    assert not {"command", "args"} & set(container)


def test_the_image_installs_the_tested_versions(dockerfile: list[tuple[str, str]]) -> None:
    installs = re.findall(
        r"pip (?:--python \S+ )?install (.*?)(?: &&|$)",
        "\n".join(value for _, value in dockerfile),
        re.MULTILINE,
    )
    assert [re.findall(r"--require-hashes -r (\S+)|--no-deps --no-index (\S+)", one) for one in installs] == [
        [("requirements/build.txt", "")],
        [("requirements/run.txt", "")],
        [("", "dist/*.whl")],
    ]


def test_the_health_check_needs_no_shell_and_asks_the_exporter(dockerfile: list[tuple[str, str]]) -> None:
    program, flag, code = json.loads(argument(dockerfile, "HEALTHCHECK").partition(" CMD ")[2])
    assert (program, flag) == ("python", "-c")
    assert f"127.0.0.1', {PORT}" in code


def test_the_base_is_an_argument(dockerfile: list[tuple[str, str]]) -> None:
    """A release can then name the base by its digest."""
    assert [value for name, value in dockerfile if name == "FROM"] == [
        "${PYTHON_IMAGE} AS build",
        "${PYTHON_IMAGE}",
    ]


def test_the_build_context_has_exactly_the_copied_files(dockerfile: list[tuple[str, str]]) -> None:
    patterns = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")
    ]
    copied = [
        source
        for name, value in dockerfile
        if name == "COPY" and not value.startswith("--from")
        for source in value.split()[:-1]
    ]
    assert patterns[0] == "*"
    assert sorted(f"!{source}" for source in copied) == sorted(
        line for line in patterns if line.startswith("!")
    )
