"""What this machine holds in memory: which models on which device, how they fare, and what may stay."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from accounts import access
from accounts.caller import caller_of
from mlops.core import errors
from mlops.runtime.host import get_host
from registry.models import ModelVersion
from serving import prediction_log
from serving.services import memory

_REASONS = {
    "capacity": "to make room",
    "idle": "nobody asked for it",
    "unloaded": "unloaded",
    "replaced": "its schema or file changed",
    "dead": "its process ended",
    "spare": "one process fewer was enough",
    "sandbox": "the sandbox did not hold",
}


@login_required
@require_GET
def runtime_status(request: HttpRequest, org: str) -> HttpResponse:
    """What is in memory of this organisation's models, and how the model host and the prediction log are doing."""
    organization = access.organization(caller_of(request), org, "org.manage")
    status = get_host().status()
    cache = status["cache"]
    asked = cache.get("hits", 0) + cache.get("misses", 0)
    probes = status["proof"].get("probes") or []
    context = {
        "organization": organization,
        "status": status,
        "devices": _devices(status),
        "entries": _own(status["entries"], organization.pk),
        "evictions": _own(reversed(cache.get("recent", [])), organization.pk)[:10],
        "sets": _sets(status, organization.pk),
        "hit_rate": cache["hits"] / asked if asked else None,
        "spool": prediction_log.status(),
        "blocked": sum(1 for probe in probes if probe["blocked"]),
        "harmless": sum(1 for probe in probes if not probe["blocked"] and not probe["mandatory"]),
    }
    return render(request, "serving/runtime_status.html", context)


@login_required
@require_POST
def runtime_pin(request: HttpRequest, org: str) -> HttpResponse:
    organization = access.organization(caller_of(request), org, "org.manage")
    key, pinned = request.POST.get("key", ""), request.POST.get("pinned") == "1"
    if not key:
        raise errors.Invalid("Which model?", fields={"key": ["Say which one, by its key."]})
    version = _versions([key], organization.pk).get(_version_pk(key))
    if version is None:
        raise errors.NotFound("There is no such model in memory.")
    memory.pin_version(version, key, caller_of(request), pinned=pinned)
    says = "stays in memory" if pinned else "may be evicted again"
    messages.success(request, f"{version.model.name} v{version.number} {says}.")
    return redirect("runtime_status", org=org)


def _devices(status: dict[str, Any]) -> list[dict[str, Any]]:
    titles = {device["name"]: device["title"] for device in status["devices"]}
    return [
        {
            "title": f"{titles[name]} ({name})" if name in titles else "Memory",
            "used": said["used_bytes"],
            "room": said["capacity_bytes"],
            "share": min(1.0, said["used_bytes"] / said["capacity_bytes"]) if said["capacity_bytes"] else 0.0,
        }
        for name, said in status["cache"].get("devices", {}).items()
    ]


def _own(rows: Any, organization_id: int) -> list[dict[str, Any]]:
    """The host serves every organisation of this machine: others' models are not shown."""
    rows = list(rows)
    versions = _versions([row["key"] for row in rows], organization_id)
    return [
        {
            **row,
            "version": versions[_version_pk(row["key"])],
            "at": _moment(row.get("at") or row.get("last_used")),
            **_batching(row.get("batching", "")),
            "because": _REASONS.get(row.get("reason", ""), ""),
        }
        for row in rows
        if _version_pk(row["key"]) in versions
    ]


def _sets(status: dict[str, Any], organization_id: int) -> list[dict[str, Any]]:
    """The dependency sets that are held imported for this organisation."""
    held = status.get("sets", {}).get("zygotes", [])
    return [
        {**row, "libraries": ", ".join(f"{name} {version}" for name, version in row["libraries"].items())}
        for row in held
        if row["owner"] == str(organization_id)
    ]


def _batching(said: str) -> dict[str, str]:
    """ "no: it is fast enough" in two parts."""
    decision, _, reason = said.partition(": ")
    return {"batching": decision, "batching_reason": reason}


def _moment(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _versions(keys: list[str], organization_id: int) -> dict[int, ModelVersion]:
    found = {pk for key in keys if (pk := _version_pk(key))}
    rows = ModelVersion.objects.filter(pk__in=found, organization_id=organization_id)
    return {row.pk: row for row in rows.select_related("model", "organization")}


def _version_pk(key: str) -> int:
    """Keys of served versions are ``v-<version id>-<hash>``; a validation's is not one of them: 0."""
    parts = str(key).split("-")
    return int(parts[1]) if len(parts) == 3 and parts[0] == "v" and parts[1].isdigit() and len(parts[1]) < 19 else 0
