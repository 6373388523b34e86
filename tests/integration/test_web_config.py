"""The web configuration file, compared with node_exporter and tested with Prometheus."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import pytest
import yaml

from tests.drivers.certificates import Certificates
from tests.drivers.process import PATIENCE, Process, eventually, exporter
from tests.drivers.prometheus import query, scraping
from tests.drivers.tools import installed

PASSWORD = "correct horse"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
USERS = {"basic_auth_users": {"prometheus": HASH}}
UNSUPPORTED = {
    "client_allowed_sans": ["prometheus.example"],
    "client_auth_type": "RequestClientCert",
    "curve_preferences": ["CurveP256"],
    "min_version": "TLS10",
}
RELOADED = "pipeline_exporter_web_config_last_reload_successful"


@pytest.fixture
def certificates(tmp_path):
    return Certificates.create(tmp_path)


@pytest.fixture
def configuration(cloud):
    return {"poll": {"interval": "10m"}, "projects": [cloud.project()]}


def write(directory: Path, content: object) -> Path:
    file = directory / "web.yml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return file


def mutual_tls(**changes: object) -> dict[str, object]:
    section = {
        "cert_file": "server.pem",
        "key_file": "server.key",
        "client_ca_file": "ca.pem",
        "client_auth_type": "RequireAndVerifyClientCert",
    }
    return {"tls_server_config": {**section, **changes}}


@contextlib.contextmanager
def serving(directory: Path, configuration: dict[str, object], web: object, *flags: str) -> Iterator[Process]:
    file = write(directory, web)
    with exporter(directory, configuration, "--web.config.file", str(file), *flags) as process:
        process.address()
        yield process


def client(certificates: Certificates | None = None, *, identified: bool = False) -> httpx.Client:
    if certificates is None:
        return httpx.Client(trust_env=False, timeout=PATIENCE)
    context = ssl.create_default_context(cafile=certificates.file("ca.pem"))
    if identified:
        context.load_cert_chain(certificates.file("client.pem"), certificates.file("client.key"))
    return httpx.Client(verify=context, trust_env=False, timeout=PATIENCE)


def status(
    address: str, *, scheme: str = "http", auth: tuple[str, str] | None = None, **options: object
) -> int | None:
    """Return the status of the response to `GET /metrics`; None if the connection failed."""
    try:
        with client(**options) as one:  # type: ignore[arg-type]
            return one.get(f"{scheme}://{address}/metrics", auth=auth).status_code
    except httpx.TransportError:
        return None


def verdicts(address: str, certificates: Certificates) -> dict[str, int | None]:
    """Return the responses of a server with mutual TLS and passwords to valid and invalid clients."""
    good, wrong = ("prometheus", PASSWORD), ("prometheus", "wrong")
    known = {"scheme": "https", "certificates": certificates, "identified": True}
    return {
        "certificate and password": status(address, auth=good, **known),  # type: ignore[arg-type]
        "wrong password": status(address, auth=wrong, **known),  # type: ignore[arg-type]
        "unknown user": status(address, auth=("admin", PASSWORD), **known),  # type: ignore[arg-type]
        "no password": status(address, **known),  # type: ignore[arg-type]
        "no certificate": status(address, scheme="https", auth=good, certificates=certificates),
        "no TLS": status(address, auth=good) if status(address, auth=good) != 400 else None,
    }


@contextlib.contextmanager
def node_exporter(web: Path) -> Iterator[str]:
    program = installed("prometheus-node-exporter")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = ["--collector.disable-defaults", f"--web.listen-address={address}", f"--web.config.file={web}"]

    def listens() -> bool:
        with contextlib.closing(socket.socket()) as probe:
            host, port = address.split(":")
            return not probe.connect_ex((host, int(port)))

    with subprocess.Popen([program, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            eventually(listens, "node_exporter listens")
            yield address
        finally:
            process.terminate()


def test_verdicts_are_those_of_node_exporter_with_the_same_file(tmp_path, certificates, configuration):
    web = {**mutual_tls(), **USERS, "http_server_config": {"headers": {"X-Frame-Options": "deny"}}}
    with serving(tmp_path, configuration, web) as process:
        ours = verdicts(process.address(), certificates)
    with node_exporter(tmp_path / "web.yml") as address:
        theirs = verdicts(address, certificates)
    assert ours == theirs
    assert ours == {
        "certificate and password": 200,
        "wrong password": 401,
        "unknown user": 401,
        "no password": 401,
        "no certificate": None,
        "no TLS": None,
    }


def test_prometheus_scrapes_with_client_certificate_and_password(tmp_path, certificates, configuration):
    access: dict[str, Any] = {
        "scheme": "https",
        "basic_auth": {"username": "prometheus", "password": PASSWORD},
        "tls_config": {
            "ca_file": certificates.file("ca.pem"),
            "cert_file": certificates.file("client.pem"),
            "key_file": certificates.file("client.key"),
        },
    }
    with (
        serving(tmp_path, configuration, {**mutual_tls(), **USERS}) as process,
        scraping(installed("prometheus"), process.address(), tmp_path, **access) as prometheus,
    ):
        assert eventually(lambda: query(prometheus, "up == 1"), "Prometheus scrapes")


def test_new_certificate_is_used_within_ten_seconds(tmp_path, certificates, configuration):
    web = mutual_tls(client_ca_file=None, client_auth_type="NoClientCert")
    with serving(tmp_path, configuration, web) as process:

        def serial() -> str:
            return ssl.get_server_certificate(("127.0.0.1", int(process.address().split(":")[1])))

        before, began = serial(), time.monotonic()
        certificates.issue("server", "127.0.0.1")
        eventually(lambda: serial() != before, "the new certificate is used")
        assert time.monotonic() - began < 10


def test_changed_client_authority_ends_the_connections_of_the_old_one(tmp_path, certificates, configuration):
    with (
        serving(tmp_path, configuration, mutual_tls()) as process,
        client(certificates, identified=True) as old,
    ):
        url = f"https://{process.address()}/-/healthy"
        assert old.get(url).status_code == 200
        new = tmp_path / "new"
        new.mkdir()
        shutil.copy(Certificates.create(new).file("ca.pem"), tmp_path / "other.pem")
        write(tmp_path, mutual_tls(client_ca_file="other.pem"))

        def refused() -> bool:
            try:
                old.get(url)
            except httpx.TransportError:
                return True
            return False

        eventually(refused, "the old client is refused")


def test_broken_file_keeps_the_last_good_one_in_force(tmp_path, configuration):
    with serving(tmp_path, configuration, USERS) as process:
        good, address = ("prometheus", PASSWORD), process.address()

        def reloaded() -> float | None:
            return process.samples_as(good).value(RELOADED)

        assert reloaded() == 1
        write(tmp_path, "basic_auth_users: {prometheus: secret-in-clear}\nnonsense: 1\n")
        eventually(lambda: reloaded() == 0, "the fault is found")
        assert status(address) == 401
        assert status(address, auth=good) == 200
        log = "".join(process.log)
        assert log.count("web-config-reload-failed") == 1
        assert "must be a bcrypt hash" in log
        assert "secret-in-clear" not in log
        write(tmp_path, {})
        eventually(lambda: status(address) == 200, "the file without passwords is in force")
        eventually(lambda: process.samples().value(RELOADED) == 1, "the page shows it")


def test_rate_limit_and_headers_are_those_of_the_file(tmp_path, configuration):
    headers = {"X-Content-Type-Options": "nosniff", "Strict-Transport-Security": "max-age=31536000"}
    web = {"rate_limit": {"interval": "1h", "burst": 3}, "http_server_config": {"headers": headers}}
    with serving(tmp_path, configuration, web) as process:
        answers = [process.get("/-/healthy") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert headers.items() <= {name.title(): value for name, value in answers[4].headers.items()}.items()


def test_probe_listener_has_only_probes_and_no_password(tmp_path, configuration):
    with serving(tmp_path, configuration, USERS, "--web.probe-listen-address", "127.0.0.1:0") as process:
        main, probes = eventually(process.addresses, "both listeners are there")
        with client() as one:
            assert one.get(f"http://{main}/-/healthy").status_code == 401
            assert one.get(f"http://{probes}/-/healthy").status_code == 200
            eventually(
                lambda: one.get(f"http://{probes}/-/ready").status_code == 200, "the exporter is ready"
            )
            assert {
                one.get(f"http://{probes}{path}").status_code for path in ("/", "/metrics", "/config")
            } == {404}


def test_silent_clients_do_not_keep_others_from_a_handshake(tmp_path, certificates, configuration):
    with serving(tmp_path, configuration, mutual_tls()) as process, contextlib.ExitStack() as stack:
        host, port = process.address().split(":")
        for _ in range(100):
            stack.enter_context(contextlib.closing(socket.create_connection((host, int(port)))))
        with client(certificates, identified=True) as one:
            began = time.monotonic()
            assert one.get(f"https://{process.address()}/-/healthy").status_code == 200
            assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("content", "faults"),
    [
        ("basic_auth_user: {}", ["web.yml:1: basic_auth_user: unknown key (did you mean basic_auth_users?)"]),
        (
            {"tls_server_config": UNSUPPORTED},
            [
                "web.yml:2: tls_server_config.client_allowed_sans: is not supported",
                "web.yml:4: tls_server_config.client_auth_type: RequestClientCert is not supported",
                "web.yml:5: tls_server_config.curve_preferences: is not supported",
                "web.yml:7: tls_server_config.min_version: TLS10 is not supported",
            ],
        ),
        ("tls_server_config: {cert_file: server.pem}", ["web.yml:1: tls_server_config: key_file is missing"]),
        (mutual_tls(client_auth_type="NoClientCert"), ["a client CA has no effect with NoClientCert"]),
        (mutual_tls(key_file="client.key"), ["the key is not that of the certificate"]),
        (mutual_tls(key_file="missing.key"), ["missing.key:1: (file): cannot be read"]),
        (mutual_tls(cipher_suites=["TLS_RSA_WITH_RC4_128_SHA"]), ["unknown cipher suite"]),
        ("basic_auth_users: {a: $2y$99$" + "a" * 53 + "}", ["has a bcrypt cost of 99"]),
        ("http_server_config: {headers: {X-Powered-By: me}}", ["header 'X-Powered-By' cannot be set"]),
        ("rate_limit: {interval: 1s}", ["burst must be 1 or more"]),
    ],
)
def test_faults_are_reported_at_the_start(tmp_path, certificates, configuration, content, faults):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(configuration))
    file = write(tmp_path, content)
    process = Process(["run", "--config.file", str(tmp_path / "config.yaml"), "--web.config.file", str(file)])
    assert process.wait() == 2
    for fault in faults:
        assert fault in "".join(process.log)
    assert "Traceback" not in "".join(process.log)


def test_http2_and_every_supported_key_are_accepted(tmp_path, certificates, configuration):
    web = {
        **mutual_tls(
            client_auth_type="VerifyClientCertIfGiven",
            min_version="TLS12",
            max_version="TLS13",
            cipher_suites=["TLS_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"],
            prefer_server_cipher_suites=False,
        ),
        "http_server_config": {"http2": True},
    }
    with serving(tmp_path, configuration, web) as process:
        assert status(process.address(), scheme="https", certificates=certificates) == 200
