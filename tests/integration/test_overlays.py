"""The folders of manifests: a cluster with restricted pods accepts them, and they are consistent with each other."""

import re

import pytest
import yaml

from exporter.web.poll_now import PATH
from tests.drivers.manifests import ROOT, WORKLOADS, chart, only, overlay, pod_template, validate, violations

FOLDERS = sorted(path.parent for path in (ROOT / "deploy").glob("kubernetes*/kustomization.yaml"))
MONITORING = ROOT / "deploy" / "kubernetes-monitoring"
POLICY = ROOT / "deploy" / "kubernetes-network-policy"
BASE = ROOT / "deploy" / "kubernetes"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_cluster_with_restricted_pods_accepts(folder):
    manifests = overlay(folder)
    assert manifests
    for manifest in manifests:
        validate(manifest)
        assert "namespace" not in manifest["metadata"]
        if manifest["kind"] in WORKLOADS:
            assert violations(manifest["spec"]["template"]["spec"]) == []


def test_image_is_named_in_one_place():
    named = [
        path.relative_to(ROOT / "deploy").as_posix()
        for path in (ROOT / "deploy").glob("kubernetes*/*.yaml")
        if re.search(r"^ *(newTag|newName|image): \S+", path.read_text(), re.MULTILINE)
    ]
    assert sorted(named) == ["kubernetes/deployment.yaml", "kubernetes/kustomization.yaml"]


@pytest.mark.parametrize(
    "folder", ["kubernetes", "kubernetes-state", "kubernetes-sharded", "kubernetes-poll-now"]
)
def test_monitor_and_policy_select_the_pods(folder):
    template = pod_template(overlay(BASE.parent / folder))
    labels = template["metadata"]["labels"].items()
    ports = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
    monitor, policy = only(overlay(MONITORING), "PodMonitor"), only(overlay(POLICY), "NetworkPolicy")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels
    assert {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]} == ports
    assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} == ports


def test_ingress_exposes_nothing_but_poll_now():
    manifests = overlay(BASE.parent / "kubernetes-poll-now")
    ingress = only(manifests, "Ingress")["spec"]
    assert "defaultBackend" not in ingress
    (rule,) = ingress["rules"]
    (path,) = rule["http"]["paths"]
    assert (path["path"], path["pathType"]) == (PATH, "Exact")
    service = only(manifests, "Service")
    backend = path["backend"]["service"]
    assert backend["name"] == service["metadata"]["name"]
    assert backend["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}
    # The token is never sent in plain text.
    assert ingress["tls"][0]["hosts"] == [rule["host"]]


@pytest.mark.parametrize("source", ["folder", "chart"])
def test_poll_token_is_a_mounted_secret(source):
    enabled = chart("--set=web.pollToken=pipeline-exporter-poll")
    spec = pod_template(overlay(BASE.parent / "kubernetes-poll-now") if source == "folder" else enabled)[
        "spec"
    ]
    (container,) = spec["containers"]
    (flag,) = [one for one in container["args"] if one.startswith("--web.poll-token-file=")]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    folder, _, key = flag.partition("=")[2].rpartition("/")
    (volume,) = [one for one in spec["volumes"] if one["name"] == mounts[folder]]
    assert (volume["secret"]["secretName"], key) == ("pipeline-exporter-poll", "token")


def test_rules_are_the_tested_ones():
    rules = {
        manifest["metadata"]["name"]: manifest["spec"]
        for manifest in overlay(MONITORING)
        if manifest["kind"] == "PrometheusRule"
    }
    folder = ROOT / "deploy" / "prometheus" / "rules"
    assert rules == {
        f"pipeline-exporter-{kind}": yaml.safe_load((folder / f"{kind}.yml").read_text())
        for kind in ("recording", "alerts")
    }


def test_chart_and_base_run_the_same_pod():
    """Resources, probes, security settings and times of the two must not diverge."""
    base, other = pod_template(overlay(BASE))["spec"], pod_template(chart())["spec"]
    for key in ("securityContext", "nodeSelector", "terminationGracePeriodSeconds", "enableServiceLinks"):
        assert base[key] == other[key]
    (ours,), (theirs,) = base["containers"], other["containers"]
    for key in ("securityContext", "resources", "startupProbe", "livenessProbe", "ports"):
        assert ours[key] == theirs[key]
    assert ours["readinessProbe"].items() <= theirs["readinessProbe"].items()
