"""Which version answers: live route tables, kept in this process and at most a second old. A warm request asks the database nothing.

Every change of what is live raises the deployment's ``route_epoch``, every change of who else may call it the model's
``shares_epoch``. A background thread compares epochs once a second, only while requests come in; a table not looked at for longer is
refreshed before it is used. While the database is away, known tables go on answering.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from django.db import DatabaseError, close_old_connections, connection

from accounts.caller import Caller
from mlops.core import logs
from mlops.core.errors import NotWarm, SlipwayError
from mlops.runtime.spec import ModelSpec
from registry.models import ModelVersion
from registry.services import artifacts, sharing
from serving.models import Deployment, DeploymentStatus, Preview, Route, Sticky

log = logs.get(__name__)

REFRESH_S = 1.0
STALE_S = 5.0  # older than this is not served without asking first
MAX_TABLES = 5_000
_QUERY_IDS = 500
_TICKETS = 1 << 20
_NUMBERED = re.compile(r"v([0-9]{1,8})")


@dataclass(frozen=True, slots=True)
class Line:
    """One version of a route table and all that is needed to ask it."""

    version_id: int
    number: int
    weight: int
    shadow: bool
    spec: ModelSpec


@dataclass(frozen=True, slots=True)
class Table:
    """A deployment as the hot path sees it. Replaced whole when anything changes. ``lines`` stand in the order of their versions."""

    deployment_id: int
    organization_id: int
    model_id: int
    name: str
    live: bool
    epoch: int
    lines: tuple[Line, ...]
    calls_per_minute: int | None = None
    paused: bool = False
    sticky: str = Sticky.HEADER.value
    shadows: tuple[Line, ...] = ()
    shares: int = 0  # the model's shares_epoch
    guests: Mapping[int, frozenset[int] | None] = field(default_factory=dict)

    def homes_of(self, caller: Caller) -> list[int]:
        """The caller's organisations as whose member he may call: the deployment's own, else those its model is shared with."""
        if caller.role_in(self.organization_id) is not None:
            return [self.organization_id]
        return [pk for pk in caller.organization_ids if pk in self.guests] if self.guests else []

    def limit_of(self, caller: Caller) -> frozenset[int] | None:
        """The ids of the versions he may ask; None for all."""
        if not self.guests or caller.role_in(self.organization_id) is not None:
            return None
        allowed = [self.guests[pk] for pk in self.homes_of(caller)]
        return None if None in allowed else frozenset().union(*(found for found in allowed if found is not None))


def draw(table: Table, sticky: str, caller: str, seed: int) -> float:
    """The point in [0, 1) by which a request finds its line: a caller's own where the deployment keeps callers, else the ``seed``'s.

    The same words give the same point, always and in every process; lines cover [0, 1) in the order of their versions. So while the
    weights stay a caller stays, and when they change only those move over whom a border has moved.
    """
    if len(table.lines) - len(table.shadows) < 2:
        return 0.0
    words = sticky if table.sticky != Sticky.OFF else ""
    if not words and table.sticky == Sticky.KEY:
        words = caller
    if not words:
        return seed % _TICKETS / _TICKETS
    digest = hashlib.blake2b(words.encode("utf-8", "replace"), digest_size=6, salt=b"%d" % table.deployment_id).digest()
    return int.from_bytes(digest) / (1 << 48)


def choose(lines: Sequence[Line], ticket: float) -> Line | None:
    """The line that answers, by weight: ``ticket`` in [0, 1) is the seed. Shadows never answer; None without an answering line."""
    answering = [line for line in lines if not line.shadow and line.weight > 0]
    if len(answering) <= 1:
        return answering[0] if answering else None
    place = ticket * sum(line.weight for line in answering)
    for line in answering:
        place -= line.weight
        if place < 0:
            return line
    return answering[-1]


class Snapshot:
    """The route tables this process has used. Thread-safe: tables are immutable, replaced by single dict operations."""

    def __init__(self) -> None:
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._tables: dict[tuple[str, str], Table] = {}
        self._pinned: dict[tuple[int, int], tuple[float, Line | None]] = {}
        self._previews: dict[tuple[int, str], tuple[float, int | None]] = {}
        self._checked = 0.0
        self._refreshing = threading.Lock()
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None

    def find(self, organization: str, name: str, *, warm: bool = False) -> Table | None:
        """The table of a deployment; None when there is none. Raises DatabaseError only for tables not known yet.

        ``warm``: from memory, never waiting; raises NotWarm when there is none young enough.
        """
        key = (organization, name)
        if warm:
            return self._known(key)
        if key in self._tables:
            self._keep_fresh()
        return self._tables.get(key) or self._load(key)

    def _known(self, key: tuple[str, str]) -> Table:
        table, age_s = self._tables.get(key), time.monotonic() - self._checked
        if table is None or age_s > STALE_S:
            raise NotWarm
        if age_s > REFRESH_S:
            self._refresh_soon()
        return table

    def version(self, table: Table, number: int, *, warm: bool = False) -> Line | None:
        """A ready version of the deployment's model, live or not; None when there is no such version. Known for five seconds.

        ``warm``: as for ``find``.
        """
        for line in table.lines:
            if line.number == number:
                return line
        key = (table.model_id, number)
        known = self._pinned.get(key)
        fresh = known is not None and time.monotonic() - known[0] < STALE_S
        if known is not None and fresh and (warm or not connection.in_atomic_block):
            return known[1]
        if warm:
            raise NotWarm
        row = (
            ModelVersion.objects.deployable()
            .select_related("model")
            .filter(model_id=table.model_id, number=number)
            .first()
        )
        line = Line(row.pk, row.number, 0, False, artifacts.spec_for(row)) if row else None
        if len(self._pinned) >= MAX_TABLES:
            self._pinned.clear()
        self._pinned[key] = (time.monotonic(), line)
        return line

    def preview(self, table: Table, name: str) -> Line | None:
        """The version behind a preview's name: ``v3``, or a named one that has not expired. None when there is no such preview."""
        numbered = _NUMBERED.fullmatch(name)
        if numbered:
            return self.version(table, int(numbered[1]))
        key = (table.deployment_id, name)
        known = self._previews.get(key)
        if known is None or time.monotonic() - known[0] > STALE_S or connection.in_atomic_block:
            row = Preview.objects.living().filter(deployment_id=table.deployment_id, name=name[:63])
            number = row.values_list("version__number", flat=True).first()
            if len(self._previews) >= MAX_TABLES:
                self._previews.clear()
            known = self._previews[key] = (time.monotonic(), number)
        return self.version(table, known[1]) if known[1] is not None else None

    def restore(self, line: Line) -> None:
        """Bring the artifact's local copy back from the storage. Raises SlipwayError when the storage cannot give it."""
        artifacts.restore(ModelVersion.objects.select_related("model").get(pk=line.version_id))

    def forget(self, deployment_id: int) -> None:
        """In the process that made a change: the next request sees it at once."""
        for key, table in list(self._tables.items()):
            if table.deployment_id == deployment_id:
                self._tables.pop(key, None)

    def clear(self) -> None:
        """Know nothing."""
        self._tables, self._pinned, self._previews = {}, {}, {}

    def _load(self, key: tuple[str, str]) -> Table | None:
        row = Deployment.objects.with_routes().filter(organization__slug=key[0], name=key[1]).first()
        if row is None:
            self._tables.pop(key, None)
            return None
        if len(self._tables) >= MAX_TABLES:
            self._tables.clear()
        table = _table(row)
        if not self._tables:
            self._checked = time.monotonic()
        self._tables[key] = table
        return table

    def _keep_fresh(self) -> None:
        age_s = time.monotonic() - self._checked
        if connection.in_atomic_block or age_s > STALE_S:  # in a transaction the caller's own changes must be seen
            self.refresh()
        elif age_s > REFRESH_S:
            self._refresh_soon()

    def _refresh_soon(self) -> None:
        self._wanted.set()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="route-refresh", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while self._wanted.wait(60):
            close_old_connections()
            self.refresh()
            self._wanted.clear()
        connection.close()  # idle: a new thread comes with the next request

    def refresh(self) -> None:
        """Compare epochs: one cheap query; changed tables are loaded again, those of deleted deployments dropped.

        Returns without having done so when another thread is at it for more than a second: the database hangs.
        """
        if not self._refreshing.acquire(timeout=REFRESH_S):
            return
        try:
            known = {
                table.deployment_id: (key, (table.epoch, table.shares)) for key, table in list(self._tables.items())
            }
            ids = list(known)
            try:
                for start in range(0, len(ids), _QUERY_IDS):
                    self._compare(ids[start : start + _QUERY_IDS], known)
            except DatabaseError as error:
                log.warning("routes_not_refreshed", error=str(error))  # known tables go on answering
            self._checked = time.monotonic()
        finally:
            self._refreshing.release()

    def _compare(self, ids: list[int], known: dict[int, tuple[tuple[str, str], tuple[int, int]]]) -> None:
        rows = Deployment.objects.filter(pk__in=ids).values_list("pk", "route_epoch", "model__shares_epoch")
        epochs = {pk: (routes, shares) for pk, routes, shares in rows}
        for deployment_id in ids:
            key, epoch = known[deployment_id]
            if epochs.get(deployment_id) == epoch:
                continue
            try:
                self._load(key)
            except SlipwayError as error:  # the new version's file cannot be had here just now: the old table stays, and is compared again
                log.warning("route_not_loaded", deployment=deployment_id, code=error.code, error=error.detail)


def _table(row: Deployment) -> Table:
    live, paused = row.status == DeploymentStatus.LIVE, row.status == DeploymentStatus.PAUSED
    lines = (
        tuple(sorted((_line(route, row) for route in row.routes.all()), key=lambda line: line.number)) if live else ()
    )
    return Table(
        deployment_id=row.pk,
        organization_id=row.organization_id,
        model_id=row.model_id,
        name=row.name,
        live=live,
        epoch=row.route_epoch,
        lines=lines,
        calls_per_minute=row.calls_per_minute,
        paused=paused,
        sticky=row.sticky,
        shadows=tuple(line for line in lines if line.shadow),
        shares=row.model.shares_epoch,
        guests=sharing.guests(row.model_id) if row.model.shares_epoch else {},
    )


def _line(route: Route, row: Deployment) -> Line:
    version = route.version
    version.model = row.model
    return Line(version.pk, version.number, route.weight, route.shadow, artifacts.spec_for(version))


snapshot = Snapshot()
