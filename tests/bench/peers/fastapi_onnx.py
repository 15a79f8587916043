"""The honest opponent: someone who converts the model to ONNX by hand and serves it with FastAPI, the body validated as the tutorial has it."""

from __future__ import annotations

from typing import Any

from tests.bench.peers import Peer
from tests.bench.peers.fastapi import uvicorn

PEER = Peer("FastAPI + ONNX by hand", "fastapi", lambda start: uvicorn(f"{__name__}:app", start))


def app() -> Any:
    import numpy as np
    from fastapi import FastAPI
    from pydantic import create_model

    from tests.bench.peers.by_hand import onnx

    predict, served = onnx(), FastAPI()
    body = create_model("Body", inputs=(list[list[float]], ...))

    async def answer(asked):
        return {"probabilities": predict(np.asarray(asked.inputs, dtype=np.float32)).tolist()}

    answer.__annotations__ = {"asked": body}
    served.post("/predict")(answer)
    return served
