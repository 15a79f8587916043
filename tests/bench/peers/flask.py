"""Flask behind gunicorn, two workers of four threads."""

from __future__ import annotations

from typing import Any

from tests.bench.peers import WORKERS, Peer, Start


def _command(start: Start) -> list[str]:
    command = [start.tool("python"), "-m", "gunicorn", "--no-control-socket", "-w", str(WORKERS), "--threads", "4"]
    return [*command, "-b", f"127.0.0.1:{start.port}", "--log-level", "warning", "tests.bench.peers.flask:app()"]


PEER = Peer("Flask + gunicorn", "flask", _command)


def app() -> Any:
    from flask import Flask, jsonify, request

    from tests.bench.peers.by_hand import native

    predict, served = native(), Flask(__name__)

    @served.post("/predict")
    def answer() -> Any:
        return jsonify(probabilities=predict(request.get_json()["inputs"]))

    return served
