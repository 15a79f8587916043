"""Slack, Teams, Discord, ntfy, PagerDuty: apprise makes the message in a process of its own, our guarded client sends it.

The process (``apprise_child``) has no network: each request it would make comes here as a line, is looked at (host, method, size) and goes
out by ``core.outbound``, which pins a checked address and follows no redirect. It is killed when its time is over.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import IO, Any

from django.conf import settings

from mlops.core import errors, outbound
from monitoring.channels import Answer, NotTaken, PermanentFailure
from monitoring.channels.addresses import Place, read
from monitoring.channels.answers import judge, not_reached
from monitoring.models import Channel, Notification

CALL_S = 10.0
CHILD_S = 20.0  # to start, make the message, and hear the answer
MOST_REQUESTS = 3
REQUEST_BYTES = 128 << 10
TITLE_CHARS, TEXT_CHARS = 200, 900  # PagerDuty takes 1,024 together, Teams' cards 1,000


@dataclass(frozen=True)
class _Request:
    method: str
    url: str
    headers: dict[str, str]
    body: bytes


def send(notification: Notification) -> Answer:
    """One try. Raises NotTaken, PermanentFailure, Gone."""
    channel = notification.target
    if channel is None:
        raise PermanentFailure("Its channel is gone.")
    try:
        place = read(channel.kind, channel.address)
    except errors.Invalid as error:
        raise PermanentFailure(error.detail) from error
    child = subprocess.Popen(  # noqa: S603  our own words
        [sys.executable, "-m", "monitoring.channels.apprise_child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=settings.BASE_DIR,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"},
        start_new_session=True,
    )
    watch = threading.Timer(CHILD_S, child.kill)
    watch.daemon = True
    watch.start()
    try:
        return _talk(child, place, _job(channel, place, notification))
    finally:
        watch.cancel()
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


def _job(channel: Channel, place: Place, notification: Notification) -> dict[str, Any]:
    secrets = channel.secrets() if place.kind == Channel.Kind.NTFY else []
    options = {**place.options, **({"mode": "private", "auth": "token", "token": secrets[0]} if secrets else {})}
    if place.kind == Channel.Kind.PAGERDUTY and notification.incident_id is not None:
        ended = notification.type == Channel.Event.RESOLVED
        options |= {
            "dedup": f"slipway-incident-{notification.incident_id}",
            "action": "resolve" if ended else "trigger",
        }
    return {
        "kind": place.kind,
        "options": options,
        "title": _cut(notification.subject, TITLE_CHARS),
        "text": _cut(notification.text, TEXT_CHARS),
        "level": "success" if notification.type == Channel.Event.RESOLVED else notification.severity,
        "url": settings.BASE_URL,
    }


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _talk(child: subprocess.Popen[bytes], place: Place, job: dict[str, Any]) -> Answer:
    """Carry its requests out until it is done. The first answer that is not 2xx decides."""
    answer: Answer | None = None
    try:
        _say(child.stdin, job)
        for _ in range(MOST_REQUESTS + 1):
            told = _hear(child.stdout)
            if "done" in told:
                break
            reply = _carry_out(_request(told, place), _OURS | _NOT_SENT.get(place.kind, set()))
            answer = judge(reply, place.host)
            _say(child.stdin, {"status": reply.status, "body": base64.b64encode(reply.body).decode()})
        else:
            raise PermanentFailure("The message came in too many parts.", answer)
    except (OSError, ValueError) as error:
        raise NotTaken("The message could not be made in time.", answer) from error
    if told["done"] is not True or answer is None:
        text = str(told.get("why") or "the answer was not what it should be")[:300]
        raise NotTaken(f"{place.host} did not take the message: {text}", answer)
    return answer


def _say(pipe: IO[bytes] | None, message: dict[str, Any]) -> None:
    if pipe is not None:
        pipe.write(json.dumps(message).encode() + b"\n")
        pipe.flush()


def _hear(pipe: IO[bytes] | None) -> dict[str, Any]:
    """Raises ValueError when it ended, or says too much."""
    line = pipe.readline(2 * REQUEST_BYTES) if pipe is not None else b""
    if not line.endswith(b"\n"):
        raise ValueError("no whole line")
    told = json.loads(line)
    if not isinstance(told, dict):
        raise ValueError("no message")  # noqa: TRY004  as for every other line that is none
    return told


def _request(told: dict[str, Any], place: Place) -> _Request:
    """What the process may ask for: POST, to the service whose address this is. Raises PermanentFailure, ValueError."""
    body = base64.b64decode(told["body"])
    request = _Request(
        str(told["method"]), str(told["url"]), {str(k): str(v) for k, v in told["headers"].items()}, body
    )
    target = outbound.split(request.url)
    if request.method != "POST" or (target.host, target.port) != (place.host, place.port) or len(body) > REQUEST_BYTES:
        raise PermanentFailure(f"A message for {place.host} may go nowhere else.")
    return request


def _carry_out(request: _Request, without: set[str]) -> outbound.Reply:
    headers = {name: value for name, value in request.headers.items() if name.lower() not in without}
    try:
        return outbound.call(
            "POST", request.url, headers=headers, body=request.body, timeout_s=CALL_S, limit_bytes=64 << 10, cut=True
        )
    except errors.SlipwayError as error:
        raise not_reached(error) from error


_OURS = {"host", "connection", "content-length", "transfer-encoding", "accept-encoding", "user-agent", "cookie"}
_NOT_SENT = {
    Channel.Kind.PAGERDUTY: {"authorization"}
}  # apprise wants a key of the account, too; the Events API knows none
