"""The benchmarks run, and their figures are complete; the tests do not compare figures with targets."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PEER = """#!{python}
import http.server, json, sys, urllib.parse, urllib.request, yaml
flags = dict(flag.split("=", 1) for flag in sys.argv[1:])
module = yaml.safe_load(open(flags["--config.file"]))["modules"]["codearts"]
assert module["body"] == {{"content": "{{{{ .ids | first }}}}", "templatize": True}}

class Probe(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, query = self.path.partition("?")
        page = b""
        if path == "/probe":
            asked = dict(urllib.parse.parse_qsl(query))
            request = urllib.request.Request(asked["target"], asked["ids"].encode(), module["headers"])
            records = json.load(urllib.request.urlopen(request))
            assert [record["pipeline_id"] for record in records] == json.loads(asked["ids"])
            page = b"# TYPE ci_x gauge\\n" + b"ci_x 1\\n" * len(records)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(page)

host, port = flags["--web.listen-address"].split(":")
http.server.HTTPServer((host, int(port)), Probe).serve_forever()
"""
"""A stand-in for json_exporter with one series for each pipeline."""


def test_state_benchmark_reports_transactions_and_file_size(tmp_path):
    """The benchmark itself fails if a pipeline is missing after the restart."""
    file = tmp_path / "results" / "state.json"
    size = ("--pipelines", "20", "--changed", "2", "--polls", "3")
    output = ("--directory", str(tmp_path), "--json", str(file))
    command = (sys.executable, "-m", "benchmarks.state", *size, *output)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("20 pipelines, 2 of them changed at each of 3 polls; ")
    figures = json.loads(file.read_text())
    assert figures["pipelines"] == 20
    transaction = figures["transaction"]
    assert 0 < transaction["median"] <= transaction["p90"] <= transaction["most"]
    assert 0 < figures["file"] <= figures["file_and_log"]
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_page_benchmark_reports_sizes_memory_and_scrapes(tmp_path):
    file = tmp_path / "pages.json"
    command = (sys.executable, "-m", "benchmarks.pages", "--sizes", "20", "40", "--json", str(file))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "\n| publication, 1 % changed | " in done.stdout
    for size, figures in zip((20, 40), json.loads(file.read_text()), strict=True):
        assert figures["pipelines"] == size
        assert figures["series"] > 75 * size
        assert figures["gzip"] < figures["plain"] / 5
        assert 0 < figures["memory"]["boards"] < figures["memory"]["rest"] <= figures["memory"]["peak"]
        assert [(one["gzip"], one["clients"]) for one in figures["scrapes"]] == [
            (True, 1), (False, 1), (True, 20), (False, 20),
        ]  # fmt: skip
        assert all(one["publications"] > 1 for one in figures["busy"])


def test_status_page_benchmark_reports_times_and_size(tmp_path):
    file = tmp_path / "status_page.json"
    size = ("--pipelines", "20", "--turns", "1", "--seconds", "0.2", "--json", str(file))
    command = (sys.executable, "-m", "benchmarks.status_page", *size)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "| scrapes with one page a second | " in done.stdout
    figures = json.loads(file.read_text())
    assert figures["pipelines"] == 20
    assert 5_000 < figures["size"] < 200_000
    for name in ("unchanged", "published", "answer", "alone", "with_page"):
        assert 0 < figures[name]["p50"] <= figures[name]["p99"]


def test_streaks_are_known_two_refreshes_after_the_pages_that_they_need(tmp_path):
    """Times are virtual, so figures are tested: most red pipelines need one page, the first refresh uses its budget."""
    file = tmp_path / "streaks.json"
    command = (sys.executable, "-m", "benchmarks.streaks", "--pipelines", "300", "--json", str(file))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "\n| codearts | 300 | " in done.stdout
    for name, figures in zip(("codearts", "flow"), json.loads(file.read_text()), strict=True):
        assert (figures["cloud"], figures["pipelines"]) == (name, 300)
        needed = figures["requests"]["ListPipelineRuns"]
        assert figures["known"] <= figures["refreshed"] + needed / 10 + 2 * 60
        assert figures["pages"]["1"] > 0.9 * figures["red"] > 10
        assert figures["first_page"] <= min(figures["refreshed"], 8)
    assert figures["refresh_requests"] / figures["refreshed"] > 9.5


def test_poll_benchmark_reports_refreshes_memory_and_peer(tmp_path):
    file = tmp_path / "polls.json"
    peer = tmp_path / "peer"
    peer.write_text(PEER.format(python=sys.executable))
    peer.chmod(0o755)
    size = ("--pipelines", "100", "200", "--turns", "1")
    missing_numbers = ("--json", str(file), "--json-exporter", str(peer))
    command = (sys.executable, "-m", "benchmarks.polls", *size, *missing_numbers)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "growth of a refresh with nothing changed, with HTTP: exponent " in done.stdout
    for size_of, figures in zip((100, 200), json.loads(file.read_text())["figures"], strict=True):
        assert figures["pipelines"] == size_of
        assert figures["answers"] > 1000 * size_of
        assert [(one["changed"], one["http"]) for one in figures["refreshes"]] == [
            (changed, http) for http in (False, True) for changed in ("nothing", "1 %", "all")
        ]
        assert all(one["seconds"] > 0 and one["loads"] > 0 for one in figures["refreshes"])
        assert 0 < figures["memory"]["rest"] <= figures["memory"]["peak"]
        assert figures["peer"]["series"] == size_of
        assert figures["peer"]["seconds"] > 0 < figures["peer"]["resident"]
