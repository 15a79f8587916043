"""One warm row through HTTP, with key check, schema check and durable log, against FastAPI + joblib and against the bare call."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.bench.product import free_port

if TYPE_CHECKING:
    from tests.bench.product import Product

ROUNDS, CALLS = 5, 300


class Target:
    """One address and body, called over a kept connection."""

    def __init__(self, port: int, path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self.port, self.path = port, path
        self.body = json.dumps(body)
        self.headers = {"Content-Type": "application/json", **(headers or {})}

    def calls(self, count: int) -> list[float]:
        """Seconds of each of ``count`` calls, one after the other. A wrong answer raises."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        times = []
        for _ in range(count):
            started = time.perf_counter()
            connection.request("POST", self.path, self.body, self.headers)
            response = connection.getresponse()
            answer = response.read()
            times.append(time.perf_counter() - started)
            if response.status != 200:
                raise RuntimeError(f"{response.status}: {answer[:300]!r}")
        connection.close()
        return times

    def rate(self, clients: int) -> float:
        """Calls per second of several clients at once."""
        started = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(self.calls, [CALLS] * clients))
        return clients * CALLS / (time.perf_counter() - started)

    def wait(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                self.calls(1)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return


def measure(product: Product) -> str:
    model, row = product.folder / "demo" / "diabetes.joblib", product.scenario.rows("diabetes")[:1]
    client, port = product.client, free_port()
    ours = Target(
        product.port,
        f"/api/v1/predict/{client.org}/diabetes",
        {"inputs": row},
        {"Authorization": f"Bearer {client.key}"},
    )
    theirs = Target(port, "/predict", {"inputs": row})
    peer = subprocess.Popen([sys.executable, "-m", "tests.bench.peer", str(model), str(port)])
    bare = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.bare", str(model), json.dumps(row)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        theirs.wait()
        ours.calls(50)
        rounds = [_round(ours, theirs, bare) for _ in range(ROUNDS)]
    finally:
        peer.terminate()
        peer.wait()
        bare.stdin.close()
        bare.wait()
    return _section({name: median(each[name] for each in rounds) for name in rounds[0]})


def _round(ours: Target, theirs: Target, bare: subprocess.Popen) -> dict[str, float]:
    bare.stdin.write("\n")
    bare.stdin.flush()
    found = {"bare": float(bare.stdout.readline())}
    for name, target in (("ours", ours), ("theirs", theirs)):
        times = sorted(target.calls(CALLS))
        found[f"{name} p50"] = times[len(times) // 2] * 1e6
        found[f"{name} p99"] = times[int(len(times) * 0.99)] * 1e6
        found[f"{name} rate"] = target.rate(8)
    return found


def _section(found: dict[str, float]) -> str:
    lines = [
        "## One warm row over HTTP",
        "",
        "A scikit-learn pipeline with text and number columns (one-hot, scaler, logistic regression), called by name. Ours checks the key and the schema, runs the model",
        "in its sandboxed runner and writes a durable log record; the FastAPI server by hand does none of that. Two web processes of ours, one process of FastAPI.",
        f"Medians of {ROUNDS} alternating rounds of {CALLS} calls.",
        "",
        "| | p50 µs, 1 client | p99 µs, 1 client | calls/s, 8 clients |",
        "|---|---|---|---|",
        f"| `model.predict_proba` called directly | {found['bare']:.0f} | | |",
    ]
    for name, title in (("ours", "Slipway"), ("theirs", "FastAPI + joblib by hand")):
        lines.append(
            f"| {title} | {found[f'{name} p50']:.0f} | {found[f'{name} p99']:.0f} | {found[f'{name} rate']:.0f} |"
        )
    lines += [
        "",
        f"Slipway / bare call: {found['ours p50'] / found['bare']:.2f}x the time.",
        f"Slipway / FastAPI: {found['ours p50'] / found['theirs p50']:.2f}x the time at one client,",
        f"{found['ours rate'] / found['theirs rate']:.2f}x the calls per second at eight.",
        "",
    ]
    return "\n".join(lines)
