"""FastAPI, as its tutorial has it: a pydantic body, the model loaded once a worker; uvicorn with uvloop and httptools."""

from __future__ import annotations

from typing import Any

from tests.bench.peers import WORKERS, Peer, Start


def uvicorn(factory: str, start: Start) -> list[str]:
    command = [start.tool("python"), "-m", "uvicorn", "--factory", factory, "--host", "127.0.0.1"]
    return [*command, "--port", str(start.port), "--workers", str(WORKERS), "--no-access-log", "--log-level", "warning"]


PEER = Peer("FastAPI + uvicorn", "fastapi", lambda start: uvicorn("tests.bench.peers.fastapi:app", start))


def app() -> Any:
    from fastapi import FastAPI
    from pydantic import create_model

    from tests.bench.peers.by_hand import native

    predict, served = native(), FastAPI()
    body = create_model("Body", inputs=(list[list[float]], ...))

    async def answer(asked):  # without the hop into a thread that "def" would cost
        return {"probabilities": predict(asked.inputs)}

    answer.__annotations__ = {"asked": body}
    served.post("/predict")(answer)
    return served
