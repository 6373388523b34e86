"""The folders of manifests: a cluster with restricted pods accepts them, and they fit together."""

import re

import pytest
import yaml

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


@pytest.mark.parametrize("folder", ["kubernetes", "kubernetes-state", "kubernetes-sharded"])
def test_monitor_and_policy_select_the_pods(folder):
    template = pod_template(overlay(BASE.parent / folder))
    labels = template["metadata"]["labels"].items()
    ports = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
    monitor, policy = only(overlay(MONITORING), "PodMonitor"), only(overlay(POLICY), "NetworkPolicy")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels
    assert {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]} == ports
    assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} == ports


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
    """Two ways to the same exporter: resources, probes, security and times must not drift apart."""
    base, other = pod_template(overlay(BASE))["spec"], pod_template(chart())["spec"]
    for key in ("securityContext", "nodeSelector", "terminationGracePeriodSeconds", "enableServiceLinks"):
        assert base[key] == other[key]
    (ours,), (theirs,) = base["containers"], other["containers"]
    for key in ("securityContext", "resources", "startupProbe", "livenessProbe", "ports"):
        assert ours[key] == theirs[key]
    assert ours["readinessProbe"].items() <= theirs["readinessProbe"].items()
