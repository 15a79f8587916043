"""The floor of HTTP: gunicorn's own ASGI worker and an application that reads the body and answers the same few bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.bench.peers import Peer, Start

CONFIGURATION = Path(__file__).parents[3] / "mlops" / "gunicorn.conf.py"
ANSWER = b'{"probabilities":[[0.5,0.5]]}'


def gunicorn(application: str, start: Start) -> list[str]:
    """The same server, with the same settings, as our own web process."""
    return [start.tool("python"), "-m", "gunicorn", "-c", str(CONFIGURATION), application]


PEER = Peer("bare ASGI echo", "", lambda start: gunicorn(f"{__name__}:app", start))


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await body_of(receive)
        await reply(send, ANSWER)
    elif scope["type"] == "lifespan":
        await lifespan(receive, send)


async def body_of(receive: Any) -> bytes:
    parts = []
    while True:
        event = await receive()
        parts.append(event.get("body", b""))
        if not event.get("more_body"):
            return b"".join(parts)


async def reply(send: Any, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def lifespan(receive: Any, send: Any) -> None:
    for step in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{step}.complete"})
