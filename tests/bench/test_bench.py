"""The benchmark says what it found: a missed goal is a missed goal, a wrong answer is not timed, a part replaces only its own section."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from tests.bench import __main__ as bench
from tests.bench import load, report
from tests.bench.load import Load
from tests.bench.models import Case
from tests.bench.race import CLIENTS, ROWS, Result
from tests.bench.servers import Skipped, Target, check

RIGHT = [0.25, 0.75]


def result(ours: float, theirs: float) -> Result:
    cells = {(rows, clients) for rows in ROWS for clients in CLIENTS}
    rates = {"slipway": ours, "flask": theirs, "fastapi_onnx": theirs, "floor": ours}
    loads = {name: {cell: Load(rate, 100, 200, 0) for cell in cells} for name, rate in rates.items()}
    titles = {"slipway": "Slipway", "flask": "Flask", "fastapi_onnx": "FastAPI + ONNX", "floor": "floor"}
    bare = {"lr": {"native": {"1": 1, "100": 2}, "onnx": {"1": 1, "100": 2}}}
    return Result(1, 1, titles, {"lr": loads}, {"lr": {"slipway": 10**8}}, {"Ray Serve, lr": "no wheel"}, bare)


def test_every_goal_met_is_said_once():
    assert "Every goal of this table is met." in report.goals(result(6_000, 1_000))


def test_a_missed_goal_is_named_with_its_ratio_and_a_skipped_peer_with_its_reason():
    told = report.race(result(4_000, 1_000))
    assert "4.00x of 5x **missed** (Flask)" in told
    assert "best native peer, 1 row, 8 clients: scaler + logistic regression has 4.00x where 5x is wanted" in told
    assert "- Ray Serve, lr: no wheel" in told


def test_a_part_replaces_its_own_section_and_leaves_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "REPORT", tmp_path / "performance.md")
    bench._write({"Push to live": "## Push to live\n\nold\n", "Home page": "## Home page\n\nkept\n"})
    bench._write({"Push to live": "## Push to live\n\nnew\n"})
    text = bench.REPORT.read_text()
    assert "new" in text
    assert "kept" in text
    assert "old" not in text


@pytest.fixture
def server() -> Iterator[Target]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"probabilities": [RIGHT]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield Target(running.server_address[1], "/predict", {1: b"{}"})
        running.shutdown()


def test_an_answer_is_compared_with_the_model_s_own_before_it_is_timed(server, tmp_path):
    def case(expected: list[float]) -> Case:
        (tmp_path / "case.json").write_text(json.dumps({"rows": [[1.0]], "probabilities": [expected]}))
        return Case("lr", tmp_path)

    assert check(server, case(RIGHT), lambda said: said["probabilities"]) == 0
    with pytest.raises(Skipped, match="differ"):
        check(server, case([0.3, 0.7]), lambda said: said["probabilities"])


def test_without_wrk_a_generator_of_our_own_counts_answers_and_failures(server, tmp_path, monkeypatch):
    monkeypatch.setattr(load, "generator", lambda: "python")
    found = load.run(server, 1, 2, 0.2, tmp_path)
    assert found.rate > 0
    assert found.errors == 0
    assert load.run(Target(1, "/", {1: b"{}"}), 1, 2, 0.1, tmp_path).errors == 2
