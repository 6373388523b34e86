"""The Helm chart: manifests of each variant, refused values, and copies of tested files."""

import copy
import re
import shutil
from pathlib import Path

import pytest
import yaml

from deploy import copies
from exporter import __version__
from exporter.settings.load import load
from tests.drivers.manifests import (
    CHART,
    OTHER_SPECS,
    RELEASE,
    ROOT,
    WORKLOADS,
    chart,
    helm,
    only,
    pod_template,
    validate,
    violations,
)

VARIANTS = sorted((CHART / "ci").glob("*-values.yaml"))
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
MONITORS = {"PodMonitor": "podMetricsEndpoints", "ServiceMonitor": "endpoints"}
FULL = f"{RELEASE}-pipeline-exporter"


def variant(name):
    return chart("--values", CHART / "ci" / f"{name}-values.yaml")


def kinds(manifests):
    return sorted(manifest["kind"] for manifest in manifests)


# Every variant


def test_lint_is_silent():
    done = helm("lint", "--strict", CHART)
    assert done.returncode == 0
    assert not re.search(r"\[(INFO|WARNING|ERROR)\]", done.stdout + done.stderr)


@pytest.mark.parametrize("values", [CHART / "values.yaml", *VARIANTS], ids=lambda path: path.stem)
def test_variant_is_accepted_by_a_cluster_with_restricted_pods(values):
    manifests = chart("--values", values)
    for manifest in manifests:
        validate(manifest)
        assert manifest["metadata"]["name"]
    assert violations(pod_template(manifests)["spec"]) == []
    labelled = [manifest for manifest in manifests if not manifest["metadata"]["name"].endswith("-extra")]
    names = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    assert len(names) == len(manifests)
    for manifest in labelled:
        assert manifest["metadata"]["labels"]["app.kubernetes.io/instance"] == RELEASE
        assert manifest["metadata"]["namespace"] in {"ci", "default"}


def test_variants_cover_every_kind():
    rendered = {kind for values in VARIANTS for kind in kinds(chart("--values", values))}
    assert rendered >= WORKLOADS | {*MONITORS, *OTHER_SPECS} - {"GrafanaDashboard"} | {
        "Service",
        "ServiceAccount",
        "ConfigMap",
        "PersistentVolumeClaim",
        "PrometheusRule",
        "NetworkPolicy",
        "PodDisruptionBudget",
    }


def test_versions_are_those_of_the_exporter():
    meta = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert meta["version"] == meta["appVersion"] == __version__
    (container,) = pod_template(chart())["spec"]["containers"]
    assert container["image"] == f"pipeline-exporter:{__version__}"


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({"tag": "edge"}, "pipeline-exporter:edge"),
        ({"registry": "r.example.com:5000", "repository": "a/b"}, f"r.example.com:5000/a/b:{__version__}"),
        ({"tag": "edge", "digest": f"sha256:{'a' * 64}"}, f"pipeline-exporter@sha256:{'a' * 64}"),
    ],
)
def test_image_values_make_the_reference(image, reference):
    flags = [f"--set=image.{key}={value}" for key, value in image.items()]
    (container,) = pod_template(chart(*flags))["spec"]["containers"]
    assert container["image"] == reference


# Configuration, secrets, state


@pytest.mark.parametrize(
    "values", [CHART / "values.yaml", CHART / "ci" / "flow-values.yaml"], ids=["default", "flow"]
)
def test_exporter_accepts_the_rendered_configuration(values, tmp_path):
    """Numbers stay numbers, and ids of digits stay text."""
    manifests = chart("--values", values)
    file = tmp_path / "config.yaml"
    file.write_text(only(manifests, "ConfigMap")["data"]["config.yaml"])
    wanted = {**VALUES["config"], **yaml.safe_load(values.read_text())["config"]}
    assert yaml.safe_load(file.read_text()) == wanted
    config = load(file, {})
    (container,) = pod_template(manifests)["spec"]["containers"]
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert config.state.path
    assert str(Path(config.state.path).parent) in mounts


def test_secrets_are_folders_named_after_them():
    spec = pod_template(variant("existing"))["spec"]
    (container,) = spec["containers"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    secrets = [volume for volume in spec["volumes"] if "secret" in volume]
    assert [volume["secret"]["secretName"] for volume in secrets] == ["codearts", "flow"]
    for volume in secrets:
        assert mounts[volume["name"]]["mountPath"] == f"/run/secrets/{volume['secret']['secretName']}"
        assert mounts[volume["name"]]["readOnly"]


def test_only_a_change_that_needs_a_restart_replaces_the_pod():
    """The exporter reloads other changes, so the name of the ConfigMap stays the same."""
    template = pod_template(chart())
    for flag in ("--set=config.poll.interval=90s", "--set=service.annotations.a=b"):
        assert pod_template(chart(flag)) == template
    moved = pod_template(chart("--set=config.state.path=/var/lib/pipeline-exporter/other.db"))
    assert moved["metadata"]["annotations"] != template["metadata"]["annotations"]


def test_reload_by_request_is_off_unless_it_is_enabled():
    flag = "--web.enable-lifecycle"
    (container,) = pod_template(chart())["spec"]["containers"]
    assert flag not in container["args"]
    (container,) = pod_template(variant("locked-down"))["spec"]["containers"]
    assert flag in container["args"]


def test_what_exists_already_is_used():
    manifests = variant("existing")
    assert kinds(manifests) == ["Deployment", "Service"]
    spec = pod_template(manifests)["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert volumes["config"]["configMap"]["name"] == "ci-metrics-config"
    assert volumes["state"]["persistentVolumeClaim"]["claimName"] == "ci-metrics-state"
    assert spec["serviceAccountName"] == "ci-metrics"
    assert {manifest["metadata"]["namespace"] for manifest in manifests} == {"ci"}


def test_one_exporter_never_overlaps_with_the_next():
    spec = only(chart(), "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


# Sharding


def test_one_value_sets_pods_and_shards():
    for shards in (1, 5):
        spec = only(chart("--set=sharding.enabled=true", f"--set=sharding.shards={shards}"), "StatefulSet")[
            "spec"
        ]
        (container,) = spec["template"]["spec"]["containers"]
        assert spec["replicas"] == shards
        assert f"--shard.total={shards}" in container["args"]
        assert spec["podManagementPolicy"] == "Parallel"


def test_each_shard_has_its_claim_and_is_a_target():
    manifests = variant("sharded")
    spec, service = only(manifests, "StatefulSet")["spec"], only(manifests, "Service")["spec"]
    (claim,) = spec["volumeClaimTemplates"]
    (container,) = spec["template"]["spec"]["containers"]
    assert claim["metadata"]["name"] in {mount["name"] for mount in container["volumeMounts"]}
    assert claim["metadata"]["name"] not in {volume["name"] for volume in spec["template"]["spec"]["volumes"]}
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
    assert spec["serviceName"] == only(manifests, "Service")["metadata"]["name"]


def test_longest_name_leaves_room_for_what_kubernetes_adds():
    """The label of a StatefulSet's revision has 11 more characters than its name, and a label has 63 at most."""
    for name in ("--set=fullnameOverride=" + "n" * 60, "--set=nameOverride=" + "n" * 60):
        manifests = chart("--set=sharding.enabled=true", name)
        stateful_set = only(manifests, "StatefulSet")
        assert len(stateful_set["metadata"]["name"]) <= 52
        assert all(len(value) <= 63 for value in stateful_set["metadata"]["labels"].values())


# Monitoring


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("kind", MONITORS)
def test_monitor_names_the_target_for_good(kind, sharded):
    """After relabeling, two successive pods are one target, and two shards are two targets."""
    name = kind[0].lower() + kind[1:]
    manifests = chart(f"--set={name}.enabled=true", f"--set=sharding.enabled={str(sharded).lower()}")
    monitor = only(manifests, kind)
    (endpoint,) = monitor["spec"][MONITORS[kind]]
    pods = [f"{FULL}-0", f"{FULL}-1"] if sharded else [f"{FULL}-5d4f8c9b7-24567", f"{FULL}-5d4f8c9b7-zzzzz"]
    targets = [relabelled(endpoint["relabelings"], pod) for pod in pods]
    assert [target["job"] for target in targets] == ["pipeline-exporter"] * 2
    assert [target["instance"] for target in targets] == (pods if sharded else [FULL] * 2)
    assert all("pod" not in target for target in targets)
    selector = monitor["spec"]["selector"]["matchLabels"].items()
    assert selector <= pod_template(manifests)["metadata"]["labels"].items()
    assert selector <= only(manifests, "Service")["metadata"]["labels"].items()


def relabelled(steps, pod):
    labels = {
        "job": "ci/x",
        "instance": "10.0.0.1:10047",
        "pod": pod,
        "__meta_kubernetes_pod_name": pod,
    }
    for step in steps:
        if step.get("action", "replace") == "labeldrop":
            labels = {name: value for name, value in labels.items() if not re.fullmatch(step["regex"], name)}
            continue
        source = ";".join(labels[name] for name in step.get("sourceLabels", []))
        found = re.fullmatch(step.get("regex", "(.*)"), source)
        if found:
            labels[step["targetLabel"]] = found.expand(step.get("replacement", "$1").replace("$", "\\"))
    return labels


@pytest.mark.parametrize(("by_team", "folder"), [("false", "rules"), ("true", "rules-by-team")])
def test_rules_are_the_tested_ones(by_team, folder):
    manifests = chart("--set=prometheusRule.enabled=true", f"--set=prometheusRule.byTeam={by_team}")
    specs = {
        manifest["metadata"]["name"]: manifest["spec"]
        for manifest in manifests
        if manifest["kind"] == "PrometheusRule"
    }
    prometheus = copies.PROMETHEUS
    assert specs == {
        f"{FULL}-recording": yaml.safe_load((prometheus / "rules" / "recording.yml").read_text()),
        f"{FULL}-alerts": yaml.safe_load((prometheus / folder / "alerts.yml").read_text()),
    }


def test_runbook_links_are_those_of_the_values():
    (alerts,) = (manifest for manifest in variant("team") if manifest["metadata"]["name"] == f"{FULL}-alerts")
    links = {
        rule["annotations"]["runbook_url"] for group in alerts["spec"]["groups"] for rule in group["rules"]
    }
    assert all(link.startswith("https://wiki.example.com/runbooks/") for link in links)


def test_recording_rules_can_be_installed_without_alerts():
    manifests = chart("--set=prometheusRule.enabled=true", "--set=prometheusRule.alerts=false")
    assert only(manifests, "PrometheusRule")["metadata"]["name"] == f"{FULL}-recording"


def test_dashboards_are_the_files_of_the_chart(tmp_path):
    """One file has template syntax that both Helm and Grafana use."""
    whole = tmp_path / "chart"
    shutil.copytree(CHART, whole)
    text = '{"uid": "x", "legendFormat": "{{status}} <&> $__rate_interval"}\n'
    (whole / "dashboards").mkdir(exist_ok=True)
    (whole / "dashboards" / "pipeline-exporter-extra.json").write_text(text)
    done = helm("template", RELEASE, whole, "--values", CHART / "ci" / "monitoring-values.yaml")
    assert done.returncode == 0, done.stderr
    manifests = [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]
    shown: dict[str, str] = {}
    for manifest in manifests:
        if manifest["kind"] == "ConfigMap" and "grafana_dashboard" in manifest["metadata"]["labels"]:
            validate(manifest)
            shown |= manifest["data"]
    assert shown == {file.name: file.read_text() for file in (whole / "dashboards").iterdir()}
    boards = [manifest for manifest in manifests if manifest["kind"] == "GrafanaDashboard"]
    for board in boards:
        validate(board)
    assert {board["spec"]["configMapRef"]["key"] for board in boards} == set(shown)


@pytest.mark.parametrize("file", copies.everything(), ids=lambda file: file.name)
def test_copy_equals_its_source(file):
    """Run `make copies` to update the copies."""
    assert file.read_text() == copies.everything()[file]


@pytest.mark.parametrize("file", copies.versioned(), ids=lambda file: file.name)
def test_file_names_the_version(file):
    assert __version__ in file.read_text()


def test_no_copy_is_left_without_its_source():
    assert copies.stale() == []


# TLS and network


def test_web_configuration_moves_the_probes_to_their_own_port():
    manifests = variant("locked-down")
    (container,) = pod_template(manifests)["spec"]["containers"]
    assert {
        "--web.config.file=/etc/pipeline-exporter-web/web-config.yml",
        "--web.probe-listen-address=:10048",
    } <= set(container["args"])
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http-metrics": 10047, "probes": 10048}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == "probes"
    assert "/etc/pipeline-exporter-web" in {mount["mountPath"] for mount in container["volumeMounts"]}
    policy = only(manifests, "NetworkPolicy")["spec"]
    assert [rule["ports"][0]["port"] for rule in policy["ingress"]] == ["http-metrics", "probes"]
    assert [rule["ports"][0]["port"] for rule in policy["egress"]] == [53, 443, 3128]


def test_values_of_the_documentation_are_accepted(tmp_path):
    page = (ROOT / "docs" / "install.md").read_text()
    (block,) = re.findall(r"^```yaml\n# values\.yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    values = tmp_path / "values.yaml"
    values.write_text(block)
    manifests = chart("--values", values)
    config = tmp_path / "config.yaml"
    config.write_text(only(manifests, "ConfigMap")["data"]["config.yaml"])
    (container,) = pod_template(manifests)["spec"]["containers"]
    assert container["image"] == f"REGISTRY/pipeline-exporter:{__version__}"
    (mounted,) = (
        mount["mountPath"] for mount in container["volumeMounts"] if "/run/secrets" in mount["mountPath"]
    )
    assert {str(Path(file).parent) for file in re.findall(r"_file: (\S+)", config.read_text())} == {mounted}
    assert load(config, {}).state.path
    for name in re.findall(r"^\| `(\w+)(?:\.\w+)?`", page, re.MULTILINE):
        assert name in VALUES, name


# Refused values

WRONG = {
    "sharding.shards=0": "/sharding/shards': minimum: got 0, want 1",
    "sharding.shards=three": "/sharding/shards': got string, want integer",
    "image.pullPolicy=Sometimes": "must be one of 'Always', 'IfNotPresent', 'Never'",
    "image.digest=abc": "/image/digest': 'abc' does not match pattern",
    "port=70000": "/port': maximum: got 70,000, want 65,535",
    "podMonitor.interval=30": "/podMonitor/interval': got number, want string",
    "podMonitor.intervall=30s": "/podMonitor': additional properties 'intervall' not allowed",
    "state.size=1GB": "/state/size': '1GB' does not match pattern",
    "resources.limits.memory=512MB": "/resources/limits/memory': '512MB' does not match pattern",
    "secrets=abc": "/secrets': got string, want array",
    "secrets[0]=My_Secret": "/secrets/0': 'My_Secret' does not match pattern",
    "serviceMonitor.enabled=yes": "/serviceMonitor/enabled': got string, want boolean",
    "config=file.yaml": "/config': got string, want object",
    "podDisruptionBudget.maxUnavailable=some": "/podDisruptionBudget/maxUnavailable': 'some' does not match",
    "verticalPodAutoscaler.updateMode=Fast": "must be one of 'Off'",
    "replicaCount=3": "replicaCount and autoscaling do not exist: .* set sharding.enabled=true and sharding.shards",
    "autoscaling.enabled=true": "replicaCount and autoscaling do not exist",
    "config.projects=null": "config.projects is empty: .* List a project",
    "extraArgs[0]=--shard.total=4": "extraArgs has --shard.total=4, .* Use the values sharding",
    "podMonitor.enabled=true,serviceMonitor.enabled=true": "would be scraped twice .* Enable one of them",
    "sharding.enabled=true,state.enabled=true,state.existingClaim=a": "each shard needs a claim of its own",
    "state.existingClaim=a": "Set state.enabled=true",
    "web.config=a,web.probePort=10047": "web.probePort equals port",
}


@pytest.mark.parametrize("value", WRONG)
def test_wrong_value_is_refused_with_its_place_and_a_remedy(value):
    done = helm("template", RELEASE, CHART, "--set", value)
    assert done.returncode != 0
    assert re.search(WRONG[value], done.stderr), done.stderr


def test_schema_knows_every_value():
    """A value without an entry would be refused, and an entry without a value would do nothing."""
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())["properties"]
    assert set(schema) == set(VALUES) | {"global", "replicaCount", "replicas", "autoscaling"}


# Notes


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            [],
            [
                "WARNING: config.projects still has the placeholder",
                "WARNING: no Secret",
                f"deployment/{FULL}",
            ],
        ),
        (
            ["--set=sharding.enabled=true"],
            [f"rollout status statefulset/{FULL}", f"port-forward pod/{FULL}-0 10047"],
        ),
        (["--set=web.config=x"], ["https://localhost:10047/metrics | grep ^pipeline_exporter_project_up"]),
    ],
)
def test_notes_say_how_to_check(flags, expected, tmp_path):
    """Without a cluster, helm shows no notes, so a copy of the chart renders them into an object."""
    whole = tmp_path / "chart"
    shutil.copytree(CHART, whole)
    (whole / "templates" / "zz.yaml").write_text(
        'kind: Notes\ntext: {{ include (print $.Template.BasePath "/NOTES.txt") . | toJson }}\n'
    )
    done = helm("template", RELEASE, whole, "--namespace=ci", *flags)
    assert done.returncode == 0, done.stderr
    notes = only([manifest for manifest in yaml.safe_load_all(done.stdout) if manifest], "Notes")["text"]
    for text in expected:
        assert text in notes
    assert "kubectl -n ci " in notes
    assert not re.search(r"\n\n\n", notes)


# The checks themselves


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("hostNetwork",), True),
        (("securityContext", "runAsNonRoot"), False),
        (("securityContext", "runAsUser"), 0),
        (("securityContext", "seccompProfile", "type"), "Unconfined"),
        (("containers", 0, "securityContext", "allowPrivilegeEscalation"), True),
        (("containers", 0, "securityContext", "capabilities", "drop"), []),
        (("containers", 0, "securityContext", "capabilities", "add"), ["SYS_ADMIN"]),
        (("containers", 0, "securityContext", "privileged"), True),
        (("containers", 0, "ports", 0, "hostPort"), 10047),
        (("volumes", 0), {"name": "x", "hostPath": {"path": "/"}}),
    ],
)
def test_violation_of_the_restricted_standard_is_found(path, value):
    spec = copy.deepcopy(pod_template(chart())["spec"])
    place = spec
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert violations(spec)
