"""Where a person's clock stands: mails that come once a day come in the morning of whoever reads them."""

from __future__ import annotations

import zoneinfo
from functools import cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from django.http import HttpRequest

if TYPE_CHECKING:
    from accounts.models import User

# static/js/ui.js writes it: the browser knows the zone, and nobody likes to choose one of 600.
COOKIE = "time_zone"
UTC = ZoneInfo("UTC")


@cache
def known() -> tuple[str, ...]:
    """Names of the IANA time zones, such as ``Europe/Berlin``, sorted; the technical ones (``Etc/GMT+5``) are left out but UTC."""
    names = zoneinfo.available_timezones()
    return tuple(
        sorted({"UTC"} | {name for name in names if "/" in name and not name.startswith(("Etc/", "SystemV/"))})
    )


def zone_of(user: User) -> ZoneInfo:
    """The person's zone; UTC while it is unknown, or where this machine's table has lost it."""
    return zone(user.time_zone)


def zone(name: str) -> ZoneInfo:
    return ZoneInfo(name) if name in known() else UTC


def remember(request: HttpRequest) -> None:
    """Keep what the browser says, once: whoever chose a zone keeps it."""
    said = request.COOKIES.get(COOKIE, "")
    if not said or request.path.startswith("/api/") or not request.user.is_authenticated or request.user.time_zone:
        return
    if said in known():
        request.user.time_zone = said
        request.user.save(update_fields=["time_zone"])
