"""The floor that is aimed at: the bare echo, plus the converted model called on rows that are an array already. No parsing, no checks."""

from __future__ import annotations

import os
from typing import Any

from tests.bench.peers import Peer
from tests.bench.peers.echo import ANSWER, body_of, gunicorn, lifespan, reply

PEER = Peer("floor: echo + model call", "", lambda start: gunicorn(f"{__name__}:app", start))

if os.environ.get("BENCH_PEER") == "floor":
    import json

    import numpy as np

    from tests.bench.peers.by_hand import chosen, onnx

    _predict = onnx()
    _ALL = np.asarray(json.loads((chosen()[1] / "case.json").read_text())["rows"], np.float32)
    _FIRST = _ALL[:1].copy()


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        many = len(await body_of(receive)) > 4_000  # one row is a tenth of that, a hundred are five times that
        _predict(_ALL if many else _FIRST)
        await reply(send, ANSWER)
    elif scope["type"] == "lifespan":
        await lifespan(receive, send)
