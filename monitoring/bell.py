"""The bell: what happened, per person, below a number in the page's frame. Written in the transaction of what it tells of."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import Count, QuerySet

from accounts.caller import Caller
from accounts.models import Membership, Organization
from accounts.roles import ACTIONS, Role
from mlops.core import clock
from mlops.core.storable import storable
from monitoring.models import BellNotice, Severity

KEPT = 100  # of one person in one organisation
KEPT_FOR = timedelta(days=90)
MOST_SHOWN = 99


def ring(  # noqa: PLR0913  a line, field by field
    organization: Organization, key: str, *, title: str, text: str = "", path: str = "",
    severity: str = Severity.INFO, needs: str = "org.view", only_known: bool = False,
) -> int:  # fmt: skip
    """A line for every member who may do ``needs``; the line about ``key`` that is there becomes this one, unread. Returns how many.

    only_known: for those alone who have a line about it already.
    """
    members = Membership.objects.filter(organization=organization, user__is_active=True)
    members = members.filter(role__in=[role for role in Role if role.at_least(ACTIONS[needs].role)])
    if only_known:
        members = members.filter(user__in=BellNotice.objects.filter(organization=organization, key=key).values("user"))
    now = clock.now()
    rows = [
        BellNotice(
            organization=organization,
            user_id=user,
            key=key,
            needs=needs,
            severity=severity,
            title=storable(title)[:300],
            text=storable(text)[:1000],
            path=path[:300],
            at=now,
        )
        for user in members.order_by("user").values_list("user", flat=True)
    ]
    changes = ("needs", "severity", "title", "text", "path", "at", "read_at")
    BellNotice.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=("organization", "user", "key"), update_fields=changes
    )
    return len(rows)


def notices(caller: Caller, organization: Organization | int) -> QuerySet[BellNotice]:
    """A person's own lines, newest first, of what the person's role lets them see today."""
    allowed = [name for name in ACTIONS if caller.can(name, organization)]
    return BellNotice.objects.filter(organization=organization, user=caller.user, needs__in=allowed)


def unread(caller: Caller, organization: Organization | int) -> int:
    """For the number at the bell; more than ``MOST_SHOWN`` are not counted."""
    waiting = notices(caller, organization).filter(read_at__isnull=True).order_by()
    return len(waiting.values_list("pk")[: MOST_SHOWN + 1])


def read(rows: QuerySet[BellNotice]) -> int:
    return rows.filter(read_at__isnull=True).update(read_at=clock.now())


def forget() -> int:
    """Old lines, and of each person all beyond the newest ``KEPT``. Returns how many went."""
    gone = BellNotice.objects.filter(at__lt=clock.now() - KEPT_FOR).delete()[0]
    crowded: Any = BellNotice.objects.order_by().values("user", "organization").annotate(lines=Count("pk"))
    for each in crowded.filter(lines__gt=KEPT):
        mine = BellNotice.objects.filter(user=each["user"], organization=each["organization"])
        gone += mine.exclude(pk__in=list(mine.values_list("pk", flat=True)[:KEPT])).delete()[0]
    return gone
