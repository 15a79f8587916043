"""The floor of HTTP: our web worker and an application that answers the same few bytes, on its express lane when it can."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.peers import Peer, Start

CONFIGURATION = Path(__file__).parents[3] / "mlops" / "gunicorn.conf.py"
ANSWER = b'{"probabilities":[[0.5,0.5]]}'


def gunicorn(application: str, start: Start) -> list[str]:
    """The same server, with the same settings, as our own web process."""
    return [start.tool("python"), "-m", "gunicorn", "-c", str(CONFIGURATION), application]


PEER = Peer("echo of our server", "", lambda start: gunicorn(f"{__name__}:app", start))


class Lane:
    """As serving.express.Express, without anything behind it."""

    start = b"POST "

    def __init__(self) -> None:
        self._heads: set[bytes] = set()

    def remember(self, peer: bytes, request: bytes, scope: dict[str, Any]) -> None:
        self._heads.add(_head(request))

    def take(self, peer: bytes, data: bytes, say: Callable[[int, bytes, bytes], None]) -> bool:
        known = _head(data) in self._heads
        if known:
            say(200, b"content-type: application/json\r\ncontent-length: %d\r\n" % len(ANSWER), ANSWER)
        return known


def _head(request: bytes) -> bytes:
    return request[: request.find(b"\r\n\r\n")]


class Echo:
    lane = Lane()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await body_of(receive)
            await reply(send, ANSWER)
        elif scope["type"] == "lifespan":
            await lifespan(receive, send)


app = Echo()


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
