"""The same opponent without any check of what comes in: orjson straight to an array, a ready response. The leanest FastAPI route there is."""

from __future__ import annotations

from typing import Any

from tests.bench.peers import Peer
from tests.bench.peers.fastapi import uvicorn

PEER = Peer("FastAPI + ONNX, nothing checked", "fastapi", lambda start: uvicorn(f"{__name__}:app", start))


def app() -> Any:
    import numpy as np
    import orjson
    from fastapi import FastAPI, Request, Response

    from tests.bench.peers.by_hand import onnx

    predict, served = onnx(), FastAPI()

    async def answer(request):
        rows = np.asarray(orjson.loads(await request.body())["inputs"], dtype=np.float32)
        said = {"probabilities": np.ascontiguousarray(predict(rows))}
        return Response(orjson.dumps(said, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")

    answer.__annotations__ = {"request": Request}
    served.post("/predict")(answer)
    return served
