"""What stays in memory: a pinned version is not evicted for room or idleness."""

from __future__ import annotations

from django.db import transaction

from accounts import audit
from accounts.caller import Caller
from mlops.runtime.host import HostError, get_host
from registry.models import ModelVersion
from serving.errors import from_host


def pin_version(version: ModelVersion, key: str, caller: Caller, *, pinned: bool) -> None:
    """``key`` names the version in the model host. Holds until the host restarts. Raises SlipwayError, also when too much is pinned already."""
    with transaction.atomic():
        audit.record(version.organization, caller, "version.pinned" if pinned else "version.unpinned", version)
        try:
            get_host().pin(key, pinned)
        except HostError as error:
            raise from_host(error) from error
