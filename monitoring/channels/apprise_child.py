"""The process that makes a chat message: apprise, with its network and files taken away. One job, then the end.

In, one line: ``{"kind", "options", "title", "text", "level", "url"}``. Out: ``{"method", "url", "headers", "body"}`` for each request,
answered by ``{"status", "body"}`` (bodies in base64); at last ``{"done": bool, "why"}``. The only module that imports apprise. No Django.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import resource
import socket
import sys
from typing import Any

CPU_S = 15
MEMORY_BYTES = 2 << 30
LINE_BYTES = 256 << 10


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    job = json.loads(sys.stdin.buffer.readline(LINE_BYTES))
    lines = _Lines()
    logging.getLogger("apprise").addHandler(lines)
    try:
        done = _notify(job)
    except Exception as error:  # noqa: BLE001  whatever apprise meets: the other side of the pipe waits for a line
        _write({"done": False, "why": f"{type(error).__name__}: {error}"})
    else:
        _write({"done": done, "why": lines.last})


def _notify(job: dict[str, Any]) -> bool:
    from apprise import Apprise, AppriseAsset, NotifyFormat

    _take_the_network_away()
    asset = AppriseAsset(
        app_id="Slipway",
        app_desc="Slipway",
        app_url=job["url"],
        image_url_mask=None,
        image_url_logo=None,
        async_mode=False,
    )
    quiet = {"include_image": False} if job["kind"] != "discord" else {"include_image": False, "avatar": False}
    plugin = _plugins()[job["kind"]](asset=asset, **quiet, **job["options"])
    sender = Apprise(asset=asset)
    sender.add(plugin)
    return bool(
        sender.notify(
            body=_plain(job["text"]),
            title=_plain(job["title"]),
            notify_type=_TYPES[job["level"]],
            body_format=NotifyFormat.TEXT,
        )
    )


def _plugins() -> dict[str, Any]:
    from apprise.plugins.discord import NotifyDiscord
    from apprise.plugins.ntfy import NotifyNtfy
    from apprise.plugins.pagerduty import NotifyPagerDuty
    from apprise.plugins.slack import NotifySlack
    from apprise.plugins.workflows import NotifyWorkflows

    return {
        "slack": NotifySlack,
        "teams": NotifyWorkflows,
        "discord": NotifyDiscord,
        "ntfy": NotifyNtfy,
        "pagerduty": NotifyPagerDuty,
    }


_TYPES = {"info": "info", "warning": "warning", "critical": "failure", "success": "success", "": "info"}
_CALLS = re.compile(r"@(?=everyone|here|channel)|<(?=[!@#&/a-z])", re.IGNORECASE)


def _plain(text: str) -> str:
    """Names of columns and models come from people: none of them calls a whole room (@everyone, <!channel>, <at>)."""
    return _CALLS.sub(lambda found: "@\u200b" if found[0] == "@" else "\u2039", text)


def _take_the_network_away() -> None:
    """What apprise sends with requests goes to the pipe; everything else that wants a socket fails."""
    import requests

    def pipe(self: Any, request: Any, **_: Any) -> Any:
        body = request.body or b""
        raw = body.encode() if isinstance(body, str) else bytes(body)
        headers = {str(name): _text(value) for name, value in request.headers.items()}
        _write(
            {"method": request.method, "url": request.url, "headers": headers, "body": base64.b64encode(raw).decode()}
        )
        answer = json.loads(sys.stdin.buffer.readline(LINE_BYTES))
        reply = requests.Response()
        reply.status_code, reply._content = answer["status"], base64.b64decode(answer["body"])
        reply.request, reply.url, reply.encoding = request, request.url, "utf-8"
        return reply

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError("This process has no network.")

    requests.Session.send = pipe  # type: ignore[method-assign]
    socket.socket.connect = refuse  # type: ignore[method-assign]
    socket.getaddrinfo = socket.create_connection = refuse


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _write(message: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
    sys.stdout.buffer.flush()


class _Lines(logging.Handler):
    """apprise's last warning: why it gave up."""

    last = ""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            self.last = record.getMessage()[:300]


if __name__ == "__main__":
    main()
