"""The command `doctor` as a process: output, exit codes, the report, and the checks of an endpoint's connection."""

import contextlib
import json
import socket
import ssl
import threading

import pytest
import yaml

from tests.drivers.certificates import Certificates
from tests.drivers.process import Process, command, eventually
from tests.drivers.support import project


@contextlib.contextmanager
def simulated(directory, *flags):
    """Run simulated clouds as a process; return the file with the configuration that it prints."""
    process = Process(
        ["simulate", "--simulate.pipelines", "20", "--web.listen-address", "127.0.0.1:0", *flags]
    )
    try:
        # Its last key is the last discovery rule of the second project.
        eventually(
            lambda: "deploys: production" in "".join(process.output[-2:]), "the configuration is printed"
        )
        file = directory / "simulated.yaml"
        file.write_text("".join(process.output))
        yield file
    finally:
        process.stop()


def doctor(file, *flags):
    code, out, err = command("doctor", str(file), "--web.listen-address", "127.0.0.1:0", *flags)
    return code, out, err


def test_healthy_clouds(tmp_path):
    with simulated(tmp_path) as file:
        code, out, err = doctor(file, "--report", str(tmp_path / "report.json"))
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "simulated-codearts"
    assert out.splitlines()[-1].endswith("0 warnings, 0 faults")
    report = (tmp_path / "report.json").read_text()
    assert [one["provider"] for one in json.loads(report)["projects"]] == ["codearts", "flow"]
    configuration = yaml.safe_load(file.read_text())
    for own in configuration["projects"]:
        for secret in (*own["auth"].values(), own["name"], own["endpoint"]):
            assert secret in {"aksk", "yunxiao_token"} or secret not in report


@pytest.mark.parametrize(
    ("trouble", "cause"),
    [("outage", "answer"), ("expired-token", "credentials"), ("lost-membership", "membership")],
)
def test_trouble_is_named(trouble, cause, tmp_path):
    with simulated(tmp_path, "--trouble", trouble) as file:
        code, out, _ = doctor(file, "--format", "json")
    assert code == 1
    checks = json.loads(out)["checks"]
    for name in ("simulated-codearts", "simulated-flow"):
        failed = [one for one in checks if one["project"] == name and one["state"] != "ok"]
        assert (failed[0]["check"], failed[0]["state"]) == (cause, "fault")
        assert "troubleshooting.md#" in failed[0]["remedy"]
    assert {one["check"] for one in checks if one["project"] is None} == {"state folder", "listen address"}


def test_name_that_does_not_resolve(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"projects": [project(endpoint="https://does-not-exist.invalid")]}))
    code, out, _ = doctor(file)
    assert code == 1
    assert "fault    name resolution" in out
    assert "credentials" not in out


@pytest.fixture
def endpoint(tmp_path):
    """A TLS server that closes each connection after the handshake; return its port and the folder of certificates."""
    certificates = Certificates.create(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.file("server.pem"), certificates.file("server.key"))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True):
                        pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], certificates
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_certificate_is_checked(endpoint, tmp_path):
    port, certificates = endpoint
    file = tmp_path / "config.yaml"
    own = project(endpoint=f"https://127.0.0.1:{port}")
    file.write_text(yaml.safe_dump({"projects": [own]}))
    code, out, _ = doctor(file)
    assert code == 1
    assert "fault    TLS" in out
    assert "set tls.ca_file" in out
    own["tls"] = {"ca_file": certificates.file("ca.pem")}
    file.write_text(yaml.safe_dump({"projects": [own]}))
    code, out, _ = doctor(file, "--format", "json")
    assert code == 1
    (tls,) = [one for one in json.loads(out)["checks"] if one["check"] == "TLS"]
    assert " ends in " in tls["detail"]
    # The server answers no request.
    first = next(one for one in json.loads(out)["checks"] if one["state"] == "fault")
    assert first["check"] == "answer"


def test_address_in_use_is_a_warning(tmp_path):
    """The address may be in use by the exporter itself."""
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"projects": [project(endpoint="https://does-not-exist.invalid")]}))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        _, out, _ = command("doctor", str(file), "--web.listen-address", address)
    assert "warning  listen address" in out


def test_invalid_configuration_and_report_that_cannot_be_written(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("projects: []\n")
    assert doctor(file)[0] == 2
    file.write_text(yaml.safe_dump({"projects": [project(endpoint="https://does-not-exist.invalid")]}))
    code, _, err = doctor(file, "--report", str(tmp_path / "missing" / "report.json"))
    assert (code, "cannot write" in err) == (1, True)
