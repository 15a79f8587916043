"""The web process: the express lane (serving/express.py), the fast door (serving/door.py), and behind them Django in threads
(mlops/bridge.py, mlops/wsgi.py)."""

from __future__ import annotations

import asyncio
import io
import logging

from mlops.wsgi import application as django  # first: it sets Django up

# isort: split
from django.conf import settings

from mlops.bridge import Bridge, Receive, Scope, Send
from serving import predict
from serving.door import Door
from serving.express import Express
from serving.websocket import Predictions

_OF_THE_ANSWER = {b"content-type", b"content-length"}


def middleware_headers(secure: bool) -> list[tuple[bytes, bytes]]:
    """What Django adds to every answer of the predict address: asked of Django itself, with a request that nobody signs."""
    host = next((name.lstrip(".") for name in settings.ALLOWED_HOSTS if name != "*"), "localhost")
    environ = {
        "REQUEST_METHOD": "POST", "SCRIPT_NAME": "", "PATH_INFO": "/api/v1/predict/-/-", "QUERY_STRING": "", "CONTENT_LENGTH": "0",
        "SERVER_NAME": host, "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": host,
        "wsgi.version": (1, 0), "wsgi.url_scheme": "https" if secure else "http", "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(), "wsgi.multithread": True, "wsgi.multiprocess": True, "wsgi.run_once": False,
    }  # fmt: skip
    found: list[tuple[bytes, bytes]] = []

    def start(status: str, headers: list[tuple[str, str]], _: object = None) -> None:
        found.extend((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers)

    logging.disable(logging.WARNING)  # a refusal nobody asked for
    try:
        django(environ, start).close()
    finally:
        logging.disable(logging.NOTSET)
    of_the_answer = {name.lower().encode() for name in predict.refuse(predict.errors.Unauthenticated(""), "").headers}
    return [(name, value) for name, value in found if name not in of_the_answer | _OF_THE_ANSWER]


bridge = Bridge(django, settings.WEB_THREADS)
door = Door(bridge, middleware_headers)
websockets = Predictions(door)


class Web:
    """The ASGI application. mlops.web_worker shows ``lane`` each request before it reads it."""

    lane = Express(door)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await door(scope, receive, send)
        elif scope["type"] == "websocket":
            await websockets(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _live(receive, send)

    def leave(self) -> None:
        """The process shall end: what would stay open for long is closed. Called by mlops.web_worker."""
        websockets.leave()


async def _live(receive: Receive, send: Send) -> None:
    """Start and end of the process."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await door.close()
    await asyncio.get_running_loop().run_in_executor(None, bridge.shutdown)
    await send({"type": "lifespan.shutdown.complete"})


application = Web()
