"""The demo in Docker Compose: its schema, its mounts, and the programs that read the mounted files."""

import json
import re
import shutil
from importlib.resources import files

import jsonschema
import pytest
import yaml

from deploy.rules.files import DATA_SOURCE
from exporter import __version__
from exporter.cli.parser import parse
from tests.drivers.manifests import ROOT, run
from tests.drivers.tools import installed

FOLDER = ROOT / "deploy" / "compose"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]


def mounts(service):
    """Return the mounted files of a service, by their place in the container."""
    pairs = [mount.split(":") for mount in SERVICES[service]["volumes"]]
    return {place: (FOLDER / source).resolve() for source, place, *_ in pairs if source.startswith(".")}


def test_schema_of_compose_accepts_it():
    schema = json.loads(
        files("check_jsonschema.builtin_schemas").joinpath("vendor/compose-spec.json").read_text()
    )
    jsonschema.validate(COMPOSE, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"services": {"a": {"imag": "b"}}}, schema)


def test_every_part_is_there_and_every_mount_exists():
    assert set(SERVICES) == {"pipeline-exporter", "prometheus", "alertmanager", "grafana"}
    for service in ("prometheus", "alertmanager", "grafana"):
        for source in mounts(service).values():
            assert source.exists(), source
    build = SERVICES["pipeline-exporter"]["build"]
    assert (FOLDER / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).exists()


def test_only_this_machine_reaches_the_ports():
    ports = [port for service in SERVICES.values() for port in service["ports"]]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    text = (FOLDER / "compose.yaml").read_text()
    named = re.findall(r"http://127\.0\.0\.1:(\d+)", text)
    assert sorted(named) == sorted(port.split(":")[1] for port in ports)


def test_version_is_that_of_the_exporter():
    service = SERVICES["pipeline-exporter"]
    assert service["image"] == f"pipeline-exporter:{__version__}"
    assert service["build"]["args"] == {"VERSION": __version__}


def test_exporter_accepts_its_command():
    flags, _ = parse(SERVICES["pipeline-exporter"]["command"], {})
    assert flags.command == "demo"


def test_prometheus_accepts_the_mounted_files(tmp_path):
    for place, source in mounts("prometheus").items():
        target = tmp_path / place.removeprefix("/etc/prometheus/")
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    done = run(installed("promtool"), "check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 rule files found" in done.stdout


def test_prometheus_scrapes_as_documented_and_knows_the_alertmanager():
    ours = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    documented = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    (alertmanager,) = ours.pop("alerting")["alertmanagers"]
    assert ours == documented
    (address,) = alertmanager["static_configs"][0]["targets"]
    assert address == f"alertmanager:{SERVICES['alertmanager']['ports'][0].rsplit(':')[-1]}"


def test_alertmanager_accepts_its_configuration():
    done = run(installed("amtool"), "check-config", FOLDER / "alertmanager.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_finds_the_data_source_and_the_dashboards():
    (source,) = yaml.safe_load((FOLDER / "grafana" / "datasources.yml").read_text())["datasources"]
    assert (source["uid"], source["url"]) == (DATA_SOURCE, "http://prometheus:9090")
    (provider,) = yaml.safe_load((FOLDER / "grafana" / "dashboards.yml").read_text())["providers"]
    assert mounts("grafana")[provider["options"]["path"]] == ROOT / "deploy" / "grafana"
