"""Kubernetes manifests: render them, and check them as a cluster would."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.drivers.tools import built

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "pipeline-exporter"
KUBERNETES = "1.34"
RELEASE = "ci"

Manifest = dict[str, Any]

WORKLOADS = {"Deployment", "StatefulSet"}
VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
# No package has types for these two kinds. The keys are those that we use, from the references of the operators.
OTHER_SPECS = {
    "GrafanaDashboard": {"instanceSelector", "folder", "configMapRef"},
    "VerticalPodAutoscaler": {"targetRef", "updatePolicy", "resourcePolicy"},
}


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run(built("helm"), *arguments)


def chart(*arguments: str | Path) -> list[Manifest]:
    """Render the chart."""
    done = helm("template", RELEASE, CHART, "--namespace=ci", *arguments)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def overlay(folder: Path) -> list[Manifest]:
    """Render a folder with kustomize."""
    done = run(shutil.which("kubectl") or pytest.skip("kubectl is not there"), "kustomize", folder)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def only(manifests: list[Manifest], kind: str) -> Manifest:
    (found,) = (manifest for manifest in manifests if manifest["kind"] == kind)
    return found


def pod_template(manifests: list[Manifest]) -> Manifest:
    (workload,) = (manifest for manifest in manifests if manifest["kind"] in WORKLOADS)
    return dict(workload["spec"]["template"])


def validate(manifest: Manifest) -> None:
    """Raise an error if a cluster with the operators would refuse a manifest, or drop a part of it."""
    if manifest["kind"] in OTHER_SPECS:
        assert set(manifest["spec"]) <= OTHER_SPECS[manifest["kind"]]
    elif manifest["apiVersion"] == "monitoring.coreos.com/v1":
        # Imported here: it takes seconds.
        from cloudcoil.models.prometheus_operator import v1  # noqa: PLC0415

        model = getattr(v1, manifest["kind"]).model_validate(manifest)
        # The models ignore unknown keys and convert values, so they must return what they got.
        assert model.model_dump(mode="json", by_alias=True, exclude_unset=True) == manifest
    else:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def violations(spec: dict[str, Any]) -> list[str]:
    """Return what the restricted Pod Security standard forbids in a pod (kubernetes.io, "Pod Security Standards")."""
    pod = spec.get("securityContext", {})
    found = [key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    found += ["sysctls"] if pod.get("sysctls") else []
    found += ["volumes" for volume in spec.get("volumes", []) if not (set(volume) - {"name"}) <= VOLUMES]
    for container in [*spec.get("containers", []), *spec.get("initContainers", [])]:
        own = container.get("securityContext", {})
        both = {**pod, **own}
        capabilities = own.get("capabilities", {})
        rules = {
            "privileged": not own.get("privileged"),
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "capabilities.drop": "ALL" in capabilities.get("drop", []),
            "capabilities.add": set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"},
            "runAsNonRoot": both.get("runAsNonRoot") is True,
            "runAsUser": both.get("runAsUser") != 0,
            "seccompProfile": both.get("seccompProfile", {}).get("type") in {"RuntimeDefault", "Localhost"},
            "procMount": own.get("procMount", "Default") == "Default",
            "seLinuxOptions": not {"user", "role"} & set(both.get("seLinuxOptions", {})),
            "appArmorProfile": both.get("appArmorProfile", {}).get("type") != "Unconfined",
            "windowsOptions": not both.get("windowsOptions", {}).get("hostProcess"),
            "hostPort": not any(port.get("hostPort") for port in container.get("ports", [])),
        }
        found += [rule for rule, kept in rules.items() if not kept]
    return found
