"""Where a prediction's time goes: microseconds of each stage of our path, one client, one row and a hundred.

The whole is what a client sees. The HTTP server is what a client sees of an echo on the same server. The hop is a question to the real
runner that it refuses at once. The model's time, and that of parsing and checking together, is the runner's own word. All else is the product's code, called in this process
with the product's rows and settings. What is left over is the event loop, the sockets and the scheduler.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.bench import load
from tests.bench.product import Ours
from tests.bench.servers import Server

if TYPE_CHECKING:
    from mlops.runtime.spec import ModelSpec, Reply
    from serving.routing import Table
    from tests.bench.models import Case
    from tests.bench.product import Product
    from tests.bench.servers import Target

BEFORE = Path(__file__).parent / "before.json"
ROWS = (1, 100)
_BATCHES, _CALLS = 40, 25

Stages = dict[str, float]


def measure(product: Product, case: Case, seconds: float) -> dict[int, Stages]:
    """By rows of a request: stage -> microseconds, in the order of the path, and the whole."""
    ours = Ours(product, case)
    ours.ready()
    with tempfile.TemporaryDirectory(prefix="slipway-peers-") as folder:
        echo = Server("echo", case, Path(folder))
        echo.start()
        try:
            echo.ready()
            load.run(ours.target, 1, 1, 1, Path(folder))
            server = {rows: seen(echo.target, rows, seconds, Path(folder)) for rows in ROWS}
            whole = {rows: seen(ours.target, rows, seconds, Path(folder)) for rows in ROWS}
        finally:
            echo.stop()
    found = {}
    for rows in ROWS:
        stages = {"HTTP server": server[rows], **_web(product, case, ours.target, rows)}
        stages["event loop, sockets, scheduler: the rest"] = whole[rows] - sum(stages.values())
        found[rows] = {**stages, "whole, as a client sees it": whole[rows]}
    return found


def seen(target: Target, rows: int, seconds: float, folder: Path) -> float:
    """What one client waits for an answer."""
    return median(load.run(target, rows, 1, seconds, folder).p50 for _ in range(3))


def us(step: Callable[[], Any]) -> float:
    """Microseconds a call: the median of batches."""
    times = []
    for _ in range(_BATCHES):
        started = time.perf_counter()
        for _ in range(_CALLS):
            step()
        times.append((time.perf_counter() - started) / _CALLS)
    return median(times) * 1e6


def _web(product: Product, case: Case, target: Target, rows: int) -> Stages:
    from accounts import keys, throttling
    from mlops.runtime.host import get_host
    from serving import predict
    from serving.routing import snapshot

    key, org = product.client.key, product.client.org
    keys.find_cached(key)
    caller, table = keys.peek(key), snapshot.find(org, case.name)
    digest = keys.digest_of(key)
    throttling.predict_allowed(caller, table)
    spec = table.lines[0].spec
    get_host().ensure(spec)
    call = predict.Call(caller, org, case.name, lambda: target.bodies[rows], "application/json", "bench-stages")
    ticket = predict.begin(call)
    ticket.body = target.bodies[rows]
    reply = predict.ask(ticket)
    keys.forget_cached()
    keys.find_cached(key)  # good for the next two seconds
    parts = {
        "key": us(lambda: keys.peek_again(digest)),
        "route": us(lambda: snapshot.find(org, case.name, warm=True)),
        "throttle": us(lambda: throttling.predict_lease(caller, table)),
    }
    throttling.predict_allowed(caller, table)  # a lease ends after some seconds
    begin = us(lambda: predict.begin(call, warm=True))
    log, finish = _log(ticket, reply)
    return {
        "express lane: which call is this?": asyncio.run(_known(product, target, rows)),
        **parts,
        "ticket": begin - parts["route"] - parts["throttle"],
        "hop to the runner and back": _hop(spec, target.bodies[rows]),
        **_runner(spec, table, target, rows),
        "answer": finish - log,
        "log": log,
    }


async def _known(product: Product, target: Target, rows: int) -> float:
    """Finding out that a request's head was served before, and what it said."""
    from accounts import keys
    from serving.door import Door
    from serving.express import Express

    door = Door(None, lambda secure: [])
    lane, body = Express(door), target.bodies[rows]
    headers = {"Host": f"127.0.0.1:{target.port}", "Content-Type": "application/json", **target.headers}
    headers["Content-Length"] = str(len(body))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"POST {target.path} HTTP/1.1\r\n{lines}\r\n".encode() + body
    scope = {
        "type": "http", "method": "POST", "scheme": "http", "raw_path": target.path.encode(), "query_string": b"", "http_version": "1.1",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    lane.remember(b"", request, scope)
    found = lane.find(b"", request)
    assert found is not None
    caller = keys.peek(product.client.key)
    return us(lambda: lane.find(b"", request)) + us(lambda: found[0].head.call(caller))


def _hop(spec: ModelSpec, body: bytes) -> float:
    """A question that the runner refuses at once: both sockets, both frames, both wake-ups."""
    from mlops.runtime import wire
    from mlops.runtime.host import get_host

    with wire.connect(get_host().warm_runner(spec).socket_path, 5) as sock:
        header = {"op": "none", "dialect": "native", "content_type": "application/json", "base_id": "0" * 32}

        def ask() -> None:
            deadline = time.monotonic() + 5
            wire.send(sock, wire.pack(1, header, body), deadline)
            wire.receive(sock, deadline)

        return us(ask)


def _runner(spec: ModelSpec, table: Table, target: Target, rows: int) -> Stages:
    from mlops.runtime.dialects import Question, native
    from mlops.runtime.formats.base import Outcome
    from mlops.runtime.handlers import Session

    session, body = Session(None, spec), target.bodies[rows]
    session.classes = [0, 1]
    parsed = native.inputs_of(native.parsed_object(body))
    said = [target.ask(rows) for _ in range(200)]
    outcome, timings = Outcome(said[0]["predictions"], said[0]["probabilities"]), said[0]["timings_ms"]
    asked = Question(parsed, rows)
    header = {"base_id": "0" * 32}
    parse = us(lambda: native.parsed_object(body))
    return {
        "runner: parse": parse,
        "runner: check": max(
            us(lambda: session.question(parsed)), median(each["timings_ms"]["parse"] for each in said) * 1e3 - parse
        ),
        "runner: model": median(each["timings_ms"]["predict"] for each in said) * 1e3,
        "runner: render": us(lambda: native.encode(session, header, asked, outcome, timings)),
    }


def _log(ticket: Any, reply: Reply) -> tuple[float, float]:
    """Of ``append`` alone, and of the whole ``finish``; into a spool of its own."""
    from mlops.core import ids
    from serving import predict, prediction_log, spool

    with tempfile.TemporaryDirectory(prefix="slipway-spool-") as folder:
        prediction_log._writer = spool.Writer(Path(folder), 10 << 30)
        finish = us(lambda: predict.finish(ticket, reply))
        kept = {
            "base_id": ids.prediction_base(), "organization_id": 1, "deployment_id": 1, "version_id": 1, "at": time.time(), "latency_ms": 0.5,
            "status": 200, "code": "", "detail": "", "key_prefix": "abcdefgh", "request_id": "bench-stages", "via": "api",
            "request": ticket.body, "response": reply.body,
        }  # fmt: skip
        log = us(lambda: prediction_log.append(**kept))
        prediction_log._writer.close()
        prediction_log._writer = None
    return log, finish


def before() -> dict[int, Stages]:
    """The same, as it was measured once before the path was made fast."""
    told = json.loads(BEFORE.read_text(encoding="utf-8")) if BEFORE.exists() else {}
    return {int(rows): stages for rows, stages in told.get("rows", {}).items()}
