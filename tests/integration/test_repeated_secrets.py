"""Secrets that a proxy, gateway, issuer or cloud repeats appear in no log, label or page."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import yaml

from exporter.core.redaction import MASK
from tests.drivers.probe import HealthProbe
from tests.drivers.process import command, eventually, exporter
from tests.drivers.support import PROJECT_ID, project

STATIC = {
    "token": ["tok/en+with=odd&chars-81"],
    "aksk": ["AKEXAMPLE0123456789A", "wJalrXUtnFEMI/K7MDENG+bPxRfi", "ST-security-token-of-aksk"],
}
PASSWORD = "pass word/é+81"
ISSUED = "MIIissued-token-of-iam-4711"
TEMPORARY = ["AKTEMPORARY987654321", "ephemeral-secret-key-33", "ephemeral-security-token-44"]
PROXY_PASSWORD = "proxy@pass/word:81"
OTHER_PROXY_PASSWORD = "environment-proxy+password"
SHORT = "geheim7"
"""Too short to be masked within other text."""


def basic(password: str) -> str:
    return base64.b64encode(f"exporter:{password}".encode()).decode()


def forms(secret: str) -> list[str]:
    """Return the forms in which a secret may be repeated."""
    raw = secret.encode()
    return [
        secret,
        quote(secret, safe=""),
        "".join(f"%{byte:02x}" for byte in raw),
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(b"u:" + raw).decode(),
    ]


# Records first: without an accepted request, two rejected pipelines end a poll.
PLACES = ("record", "pipeline id", "message", "message's cut", "code", "reason", "request id", "many lines")
SECRETS = {
    **STATIC,
    "password": [PASSWORD, ISSUED],
    "metadata": TEMPORARY,
    "short": [SHORT],
}
REPEATED = {name: [form for secret in secrets for form in forms(secret)] for name, secrets in SECRETS.items()}
REPEATED["short"] = [SHORT]
PROXIED = {
    "proxy": [*forms(PROXY_PASSWORD)[:4], basic(PROXY_PASSWORD)],
    "env": [*forms(OTHER_PROXY_PASSWORD)[:4], basic(OTHER_PROXY_PASSWORD)],
}


class Hostile(BaseHTTPRequestHandler):
    """A cloud, an issuer of credentials and a proxy that repeat secrets."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, body: object, reason: str = "odd", **headers: str) -> None:
        content = json.dumps(body).encode()
        self.send_response_only(status, reason)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def do_CONNECT(self) -> None:
        self.refuse(self.path.partition(":")[0])

    def refuse(self, host: str) -> None:
        """Refuse a connection as a proxy; the host name selects the secret to repeat, its form and its position."""
        name, index, place = host.split(".")[:3]
        form = PROXIED[name][int(index)].encode().decode("latin-1")
        self.close_connection = True
        if place == "reason":
            self.answer(407, {}, f"denied {form}", Connection="close")
        else:
            self.answer(407, {"error_msg": f"denied {PROXIED[name][int(index)]}"}, Connection="close")

    def respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        if url.hostname:
            self.refuse(url.hostname)
        elif url.path.startswith("/refuse/"):
            form = forms(PASSWORD)[int(url.path.split("/")[2])]
            self.answer(401, {"error": {"code": form, "message": f"wrong password {form}"}})
        elif url.path.endswith("/v3/auth/tokens"):
            self.answer(201, {"token": {"expires_at": "2999-01-01T00:00:00Z"}}, X_Subject_Token=ISSUED)
        elif url.path.endswith("/api/token"):
            self.answer(404, {})
        elif url.path.endswith("/securitykey"):
            access, secret, token = TEMPORARY
            self.answer(200, {"credential": {"access": access, "secret": secret, "securitytoken": token}})
        else:
            self.repeat(url.path.split("/")[1], body)

    do_GET = do_POST = do_PUT = respond  # noqa: N815  # names of the library

    def list_pipelines(self, repeated: list[str], offset: int) -> None:
        rows = [{"pipeline_id": f"{number:032x}", "name": form} for number, form in enumerate(repeated)]
        rows += [{"pipeline_id": form, "name": "odd"} for form in repeated]
        self.answer(200, {"pipelines": rows[offset:]})

    def repeat(self, name: str, body: bytes) -> None:
        """Respond as a cloud; the pipeline id selects the form of the secret to repeat, and its position."""
        asked = json.loads(body)
        if isinstance(asked, dict):
            self.list_pipelines(REPEATED[name], asked["offset"])
            return
        pipeline = asked[0]
        number = int(pipeline, 16)
        form = REPEATED[name][number % len(REPEATED[name])]
        inside = form if name == "short" else f"x {form}"
        record = {
            "pipeline_id": pipeline, "pipeline_run_id": form, "run_number": 1, "status": form, "trigger_type": inside,
            "start_time": 1700000000000, "executor_id": form, "detail_url": f"http://example.com/{form}",
            "build_params": {"target_branch": inside, "tag": "t" * 246 + form},
            "stage_status_list": [
                {"name": inside, "sequence": form, "status": inside, "start_time": form},
                {"name": form, "sequence": 1, "status": form},
            ],
        }  # fmt: skip
        if name == "short":
            record["detail_url"] = record["build_params"]["tag"] = ""
        match PLACES[number // len(REPEATED[name])]:
            case "message":
                self.answer(400, {"error_code": "X.1", "error_msg": inside})
            case "message's cut":
                text = form if name == "short" else "m" * 292 + form
                self.answer(400, {"error_code": "X.1", "error_msg": text})
            case "code":
                self.answer(400, {"error_code": inside, "error_msg": "no"})
            case "reason":
                self.answer(400, {}, inside.encode().decode("latin-1"))
            case "request id":
                self.answer(400, {"error_msg": "no"}, X_Request_Id=inside.encode().decode("latin-1"))
            case "record":
                self.answer(200, [record])
            case "pipeline id":
                self.answer(200, [{**record, "pipeline_id": form}])
            case "many lines":
                text = form if name == "short" else f"x\r\n\x1b[31m{form}\n"
                self.answer(400, {"error_code": "X.1", "error_msg": text})


@contextmanager
def hostile() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def configuration(port: int, directory: Path) -> dict[str, Any]:
    """Return projects with each kind of credential, and a pipeline for each form and position of a secret."""
    url = f"http://127.0.0.1:{port}"
    file = directory / "proxy"
    file.write_text(f"http://exporter:{quote(PROXY_PASSWORD, safe='')}@127.0.0.1:{port}\n")
    secret = directory / "secret"
    secret.write_text(STATIC["aksk"][1])
    user = {
        "method": "password",
        "domain": "company",
        "username": "exporter",
        "password": PASSWORD,
        "iam_project": "a",
    }
    access_key, _, security_token = STATIC["aksk"]
    auths: dict[str, dict[str, Any]] = {
        "token": {"method": "token", "token": STATIC["token"][0]},
        "short": {"method": "token", "token": SHORT},
        "aksk": {
            "method": "aksk", "access_key": access_key, "secret_key_file": str(secret), "security_token": security_token,
        },
        "password": {**user, "iam_endpoint": url},
        "metadata": {"method": "metadata", "metadata_endpoint": url},
    }  # fmt: skip
    rate = {"requests_per_second": 1000, "burst": 1000}
    projects = [
        project(
            name=f"cloud-{name}",
            endpoint=f"{url}/{name}",
            auth=auth,
            rate_limit=rate,
            pipelines=[f"{number:032x}" for number in range(len(PLACES) * len(REPEATED[name]))],
        )
        for name, auth in auths.items()
    ]
    projects += [
        project(
            name=f"refused-{index}",
            endpoint=f"{url}/{index}",
            auth={**user, "iam_endpoint": f"{url}/refuse/{index}"},
        )
        for index in range(len(forms(PASSWORD)))
    ]
    projects += [
        project(
            name=f"{scheme}-{name}-{index}-{place}",
            endpoint=f"{scheme}://{name}.{index}.{place}.example",
            **({"proxy_file": str(file)} if name == "proxy" else {}),
        )
        for name, repeated in PROXIED.items()
        for index in range(len(repeated))
        for place in ("reason", "body")
        for scheme in ("http", "https")
    ]
    return {"poll": {"chunk_size": 1, "interval": "60s"}, "projects": projects}


def environment(port: int) -> dict[str, str]:
    url = f"http://exporter:{quote(OTHER_PROXY_PASSWORD)}@127.0.0.1:{port}"
    return {
        "HTTP_PROXY": url,
        "http_proxy": url,
        "HTTPS_PROXY": url,
        "https_proxy": url,
        "no_proxy": "",
        "NO_PROXY": "",
    }


def leaked(text: str) -> set[str]:
    """Return the secrets whose beginning is in a text, in any form."""
    everything = {
        form: form[:8]
        for secret in (
            *STATIC["token"],
            *STATIC["aksk"],
            PASSWORD,
            ISSUED,
            *TEMPORARY,
            PROXY_PASSWORD,
            OTHER_PROXY_PASSWORD,
        )
        # The first characters of base64 encode "u:" only.
        for form in (*forms(secret)[:4], forms(secret)[4][4:])
    }
    # In a log line quotes and other characters are escaped.
    found = {form for form, start in everything.items() if start.lower() in text.lower()}
    return found | ({SHORT} if SHORT in text else set())


PARTS = {
    "clouds": (("cloud-token",), ("request failed", "unknown value", "without a valid pipeline id")),
    "proxies": (("refused-0", "http-proxy-0-body", "https-env-4-reason"), ("407",)),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_no_repeated_secret_is_shown(tmp_path: Path, part: str, form: str) -> None:
    """Neither in the debug log of the daemon nor on a page."""
    names, messages = PARTS[part]
    with hostile() as port:
        flags = ("--log.level", "debug", "--log.format", form)
        settings = configuration(port, tmp_path)
        settings["projects"] = [
            one for one in settings["projects"] if one["name"].startswith("cloud") == (part == "clouds")
        ]
        with exporter(tmp_path, settings, *flags, environment=environment(port)) as process:
            eventually(lambda: process.get("/-/ready").status_code == 200, "the first refresh")
            pages = {path: process.get(path).text for path in ("/metrics", "/config", "/")}
            openmetrics = process.get("/metrics", headers={"Accept": "application/openmetrics-text"}).text
    log = "".join(process.log)
    assert {path: leaked(page) for path, page in pages.items()} == {path: set() for path in pages}
    assert leaked(openmetrics) == set()
    assert leaked(log) == set()
    for message in messages:
        assert message in log
    for name in names:
        assert any(name in line and MASK in line for line in process.log), name
    if part == "clouds":
        assert MASK in pages["/metrics"]


@pytest.mark.parametrize("arguments", [("once",), ("check-config",), ("discover",)])
def test_no_command_shows_a_repeated_secret(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with hostile() as port:
        file = tmp_path / "config.yaml"
        settings = configuration(port, tmp_path)
        if arguments == ("discover",):
            # Sequential requests with retries would take too long.
            settings["projects"] = [
                one for one in settings["projects"] if not one["name"].startswith("https")
            ]
        file.write_text(yaml.safe_dump(settings))
        code, output, errors = command(
            *arguments, "--config.file", str(file), "--log.level", "debug", environment=environment(port)
        )
    assert code in {0, 1}
    assert leaked(output) == set()
    assert leaked(errors) == set()


def test_message_of_megabytes_does_not_block_the_event_loop(tmp_path: Path) -> None:
    """`/-/healthy` responds within a second while the message is cut and masked."""

    class Verbose(Hostile):
        def repeat(self, name: str, body: bytes) -> None:
            self.answer(
                500, {"error_code": "X" * 100_000, "error_msg": "e\x1b canonical signature=0 " * 200_000}
            )

    server = ThreadingHTTPServer(("127.0.0.1", 0), Verbose)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        settings = {
            "poll": {"interval": "1s"},
            "projects": [
                project(endpoint=f"http://127.0.0.1:{server.server_port}/token", project_id=PROJECT_ID)
            ],
        }
        with exporter(tmp_path, settings, "--log.level=debug") as process:
            process.address()
            with HealthProbe(process) as probe:
                eventually(lambda: "".join(process.log).count("poll failed") >= 3, "three polls")
    finally:
        server.shutdown()
        server.server_close()
    assert probe.failures == []
    assert probe.worst < 1
