"""What a person pastes as a channel's address, read strictly: the service's own webhook address, or a key. Everything else is refused.

Nothing here is an apprise URL: there is no scheme to choose (file, exec, json ...), no query option, no attachment and no template.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from mlops.core import errors, outbound
from monitoring.models import Channel

_Kind = Channel.Kind


@dataclass(frozen=True)
class Place:
    """Where a message goes. options: what apprise's plugin is made with. shown: the address without what is secret in it."""

    kind: str
    host: str
    port: int
    shown: str
    options: dict[str, Any] = field(default_factory=dict, repr=False)


def read(kind: str, address: str) -> Place:
    """Raises errors.Invalid with a sentence that says what the address should look like. Nothing is looked up."""
    text = address.strip()
    found = _READERS[_Kind(kind)](text)
    if found is None:
        label, looks = _Kind(kind).label, LOOKS[_Kind(kind)]
        raise errors.Invalid(
            f"This is not an address of {label}.", code="address_invalid", hint=f"It looks like {looks}",
            fields={"address": [f"It looks like {looks}"]},
        )  # fmt: skip
    return found


def check(kind: str, address: str) -> Place:
    """``read``, and the host must be one we may go to. Raises errors.Invalid, outbound.OutboundError."""
    place = read(kind, address)
    try:
        outbound.check(f"https://{place.host}:{place.port}/" if kind != _Kind.WEBHOOK else address.strip())
    except errors.Invalid as error:
        raise errors.Invalid(
            error.detail, code=error.code, hint=error.hint, fields={"address": [error.detail]}
        ) from error
    return place


LOOKS = {
    _Kind.WEBHOOK: "https://example.com/hooks/slipway",
    _Kind.SLACK: "https://hooks.slack.com/services/T.../B.../...",
    _Kind.TEAMS: "https://....logic.azure.com/workflows/.../triggers/manual/paths/invoke?...&sig=... (Teams, Workflows, When a webhook request is received)",
    _Kind.DISCORD: "https://discord.com/api/webhooks/.../...",
    _Kind.NTFY: "https://ntfy.sh/topic, or a topic on a server of your own",
    _Kind.PAGERDUTY: "an integration key: 32 letters and digits (Events API v2)",
}


def _webhook(text: str) -> Place | None:
    target = outbound.split(text)
    port = "" if target.port in (80, 443) else f":{target.port}"
    return Place(_Kind.WEBHOOK, target.host, target.port, f"{target.scheme}://{target.host}{port}/{_dots(target.path)}")


def _dots(path: str) -> str:
    return "…" if path not in ("", "/") else ""


_SLACK = re.compile(
    r"https://hooks\.(slack|slack-gov)\.com/services/([A-Z0-9]{1,20})/([A-Z0-9]{1,20})/([A-Za-z0-9]{1,40})/?"
)


def _slack(text: str) -> Place | None:
    found = _SLACK.fullmatch(text)
    if found is None:
        return None
    site, team, hook, token = found.groups()
    mode = {"mode": "gov-hook"} if site == "slack-gov" else {}
    options = {"token_a": team, "token_b": hook, "token_c": token, **mode}
    host = f"hooks.{site}.com"
    return Place(_Kind.SLACK, host, 443, f"{host}/services/{team}/…", options)


_DISCORD = re.compile(
    r"https://(?:ptb\.|canary\.)?discord(?:app)?\.com/api/(?:v[0-9]{1,2}/)?webhooks/([0-9]{5,25})/([A-Za-z0-9_-]{10,120})/?"
)


def _discord(text: str) -> Place | None:
    found = _DISCORD.fullmatch(text)
    if found is None:
        return None
    options = {"webhook_id": found[1], "webhook_token": found[2]}
    return Place(_Kind.DISCORD, "discord.com", 443, f"discord.com/api/webhooks/{found[1]}/…", options)


_TEAMS = re.compile(
    r"https://(?P<host>[a-z0-9-]{1,80}(?:\.[a-z0-9-]{1,40}){0,4}\.(?:logic\.azure\.com|logic\.azure\.us|api\.powerplatform\.com))(?::443)?"
    r"(?P<power>/powerautomate/automations/direct(?:/cu/(?P<route>[0-9]{1,4}))?)?/workflows/(?P<workflow>[A-Za-z0-9_-]{1,80})"
    r"/triggers/manual/paths/invoke/?\?(?P<query>[A-Za-z0-9%&=._~/+-]{1,400})"
)


def _teams(text: str) -> Place | None:
    found = _TEAMS.fullmatch(text)
    query = dict(parse_qsl(found["query"])) if found else {}
    if found is None or not re.fullmatch(r"[A-Za-z0-9_-]{10,100}", query.get("sig", "")):
        return None
    version = query.get("api-version", "")
    options = {
        "host": found["host"],
        "workflow": found["workflow"],
        "signature": query["sig"],
        "power_automate": bool(found["power"]),
        "routing_id": found["route"],
        "version": version if re.fullmatch(r"[0-9a-z-]{1,30}", version) else None,
        "wrap": True,
    }
    return Place(_Kind.TEAMS, found["host"], 443, f"{found['host']}/workflows/…", options)


_TOPIC = re.compile(r"/([A-Za-z0-9_-]{1,64})/?")


def _ntfy(text: str) -> Place | None:
    parts = urlsplit(text)
    target = outbound.split(text)
    topic = _TOPIC.fullmatch(target.path)
    if topic is None or parts.query:
        return None
    usual = 443 if target.scheme == "https" else 80
    options = {
        "targets": topic[1],
        "mode": "private",
        "host": target.host,
        "port": None if target.port == usual else target.port,
        "secure": target.scheme == "https",
    }
    port = "" if target.port == usual else f":{target.port}"
    # on an open server whoever knows the topic reads it
    return Place(_Kind.NTFY, target.host, target.port, f"{target.host}{port}/{topic[1][:2]}…", options)


_PAGERDUTY = re.compile(r"(?:(eu)[: ])?([A-Za-z0-9]{32})", re.IGNORECASE)


def _pagerduty(text: str) -> Place | None:
    found = _PAGERDUTY.fullmatch(text)
    if found is None:
        return None
    region = "eu" if found[1] else "us"
    host = "events.eu.pagerduty.com" if found[1] else "events.pagerduty.com"
    options = {"integrationkey": found[2], "apikey": "unused", "region_name": region, "source": "Slipway"}
    return Place(_Kind.PAGERDUTY, host, 443, f"{host}, key {found[2][:4]}…", options)


_READERS: dict[Channel.Kind, Callable[[str], Place | None]] = {
    _Kind.WEBHOOK: _webhook,
    _Kind.SLACK: _slack,
    _Kind.TEAMS: _teams,
    _Kind.DISCORD: _discord,
    _Kind.NTFY: _ntfy,
    _Kind.PAGERDUTY: _pagerduty,
}
