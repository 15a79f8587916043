"""What test_doors.py has gunicorn serve: the web process as it is (``fast``), and Django behind its bridge alone (``plain``).

``fast`` says in a header when a request was Django's after all, and when the express lane took it.
"""

from __future__ import annotations

from typing import Any

from mlops.asgi import Door, bridge, middleware_headers
from serving.express import Express


class Marked:
    """The bridge, telling that it answered."""

    pool = bridge.pool

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def marked(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-test-door", b"django")]}
            await send(message)

        await bridge(scope, receive, marked)


class MarkedLane(Express):
    """The express lane, telling that it answered."""

    def __init__(self, door: Door) -> None:
        super().__init__(door)
        self._lines = {secure: lines + b"x-test-door: express\r\n" for secure, lines in self._lines.items()}


class Fast(Door):
    def __init__(self) -> None:
        super().__init__(Marked(), middleware_headers)
        self.lane = MarkedLane(self)


fast = Fast()
plain = bridge
