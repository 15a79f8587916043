"""What test_doors.py has gunicorn serve: the web process as it is (``fast``), and Django behind its bridge alone (``plain``).

``fast`` says in a header when a request was Django's after all.
"""

from __future__ import annotations

from typing import Any

from mlops.asgi import Door, bridge, middleware_headers


class Marked:
    """The bridge, telling that it answered."""

    pool = bridge.pool

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def marked(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-test-door", b"django")]}
            await send(message)

        await bridge(scope, receive, marked)


fast = Door(Marked(), middleware_headers)
plain = bridge
