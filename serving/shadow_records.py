"""What a shadow answered beside what was answered, from the spool to the hours that pages read. Anything may stand in either body."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from mlops.core import clock, ids
from serving import comparing, records, traffic
from serving.comparing import Given
from serving.models import ShadowBucket, ShadowFlip
from serving.records import Columns
from serving.redaction import Redactor
from serving.spool import Record

HOUR = timedelta(hours=1)
EXAMPLES = 20  # kept of each shadow
NEAR = 0.01  # two numbers closer than 1 % of the larger one are called the same
_FLIPS_OF_A_REQUEST = 3


@dataclass
class Compared:
    """One request, or a number of drops."""

    organization_id: int
    deployment_id: int
    version_id: int
    champion_id: int | None
    at: datetime
    asked: bool
    failed: bool = False
    dropped: int = 0
    rows: int = 0
    agreed: int = 0
    shift_rows: int = 0
    shift_sum: float = 0.0
    ms: float | None = None
    live_ms: float | None = None
    flips: list[ShadowFlip] = field(default_factory=list)


def parse(record: Record, columns: Callable[[int], Columns | None], redactor: Redactor | None = None) -> Compared:
    """Raises KeyError, TypeError or ValueError when the header is not one that ``serving.shadow`` writes."""
    head = record.header
    status = int(head["status"])
    found = Compared(
        int(head["organization"]), int(head["deployment"]), int(head["version"]), head["champion"],
        datetime.fromtimestamp(head["at"], tz=UTC), asked=status > 0, failed=status != 200 and status > 0,
        dropped=int(head.get("dropped", 0)),
    )  # fmt: skip
    if found.asked:
        split = int(head["answer"])
        ours = records.as_object(record.response[:split])
        found.live_ms = _total_ms(ours)
        if not found.failed:
            theirs = records.as_object(record.response[split:])
            found.ms = _total_ms(theirs)
            _compare(found, UUID(head["id"]), records.as_object(record.request).get("inputs"), ours, theirs, columns)
            if redactor is not None:
                for flip in found.flips:
                    flip.features = redactor.row(flip.features)
    return found


def _total_ms(said: dict[str, Any]) -> float | None:
    timings = said.get("timings_ms")
    total = timings.get("total") if isinstance(timings, dict) else None
    return float(total) if isinstance(total, (int, float)) and not isinstance(total, bool) and total >= 0 else None


def _compare(
    found: Compared, base: UUID, inputs: Any, ours: dict[str, Any], theirs: dict[str, Any],
    columns: Callable[[int], Columns | None],
) -> None:  # fmt: skip
    before, after = _given(ours), _given(theirs)
    if len(before) != len(after):
        found.failed = True
        return
    features = records.named_rows(columns(found.champion_id) if found.champion_id else None, inputs)
    classes = _classes(ours), _classes(theirs)
    for place, pair in enumerate(zip(before, after, strict=True)):
        same, shift = _same(*pair, classes)
        found.rows += 1
        found.agreed += same
        if shift is not None:
            found.shift_rows += 1
            found.shift_sum += shift
        if not same and len(found.flips) < _FLIPS_OF_A_REQUEST and found.champion_id:
            found.flips.append(
                ShadowFlip(
                    deployment_id=found.deployment_id,
                    version_id=found.version_id,
                    champion_id=found.champion_id,
                    at=found.at,
                    prediction_id=ids.prediction_id(base, place),
                    features=features[place] if place < len(features) else None,
                    ours=pair[0].prediction,
                    theirs=pair[1].prediction,
                    shift=shift,
                )  # fmt: skip
            )


def _given(said: dict[str, Any]) -> list[Given]:
    predictions, chances = said.get("predictions"), said.get("probabilities")
    predictions = predictions[: records.MAX_ROWS] if isinstance(predictions, list) else []
    chances = chances if isinstance(chances, list) and len(chances) == len(predictions) else [None] * len(predictions)
    return [
        Given(prediction, each if isinstance(each, list) else None)
        for prediction, each in zip(predictions, chances, strict=False)
    ]


def _classes(said: dict[str, Any]) -> list[Any] | None:
    found = said.get("classes")
    return found if isinstance(found, list) else None


def _same(ours: Given, theirs: Given, classes: tuple[list[Any] | None, list[Any] | None]) -> tuple[bool, float | None]:
    """Whether both say the same, and how far they lie apart: the largest change of any probability, or the distance of the numbers."""
    found = comparing.figures([ours], [theirs], classes, labels=True)
    shift = found.get("shift")
    if shift or any(classes):
        return bool(found["agreed"]), shift["mean"] if shift else None
    gap = comparing.distance(ours.prediction, theirs.prediction)
    near = gap is not None and gap <= NEAR * max(_size(ours.prediction), _size(theirs.prediction))
    return bool(found["agreed"]) or near, gap


def _size(value: Any) -> float:
    return max(map(_size, value), default=0.0) if isinstance(value, list) else abs(float(value))


# --- Hours ----------------------------------------------------------------------------------------------------------------


def count(found: Iterable[Compared]) -> None:
    """Add to the hours, keep the newest examples. In the shipper's transaction."""
    hours: dict[tuple[int, int, datetime], list[Compared]] = {}
    for each in found:
        at = clock.floor(each.at, HOUR)
        hours.setdefault((each.deployment_id, each.version_id, at), []).append(each)
    flips: dict[tuple[int, int], list[ShadowFlip]] = {}
    for (deployment_id, version_id, at), several in hours.items():
        _add(deployment_id, version_id, at, several)
        for each in several:
            flips.setdefault((deployment_id, version_id), []).extend(each.flips)
    for (deployment_id, version_id), new in flips.items():
        if new:
            ShadowFlip.objects.bulk_create(new[-EXAMPLES:])
            mine = ShadowFlip.objects.filter(deployment_id=deployment_id, version_id=version_id).order_by("-pk")
            old = list(mine.values_list("pk", flat=True)[EXAMPLES : EXAMPLES + 1])
            if old:
                mine.filter(pk__lte=old[0]).delete()


def _add(deployment_id: int, version_id: int, at: datetime, several: list[Compared]) -> None:
    bucket, _ = ShadowBucket.objects.select_for_update().get_or_create(
        deployment_id=deployment_id,
        version_id=version_id,
        at=at,
        defaults={"organization_id": several[0].organization_id},
    )
    latency, live = traffic.merged([bucket.latency]), traffic.merged([bucket.live_latency])
    for each in several:
        bucket.requests += each.asked
        bucket.errors += each.failed
        for name in ("dropped", "rows", "agreed", "shift_rows", "shift_sum"):
            setattr(bucket, name, getattr(bucket, name) + getattr(each, name))
        if each.ms is not None and each.live_ms is not None:  # of the same requests
            latency[traffic.bin_of(each.ms)] += 1
            live[traffic.bin_of(each.live_ms)] += 1
    bucket.latency, bucket.live_latency = latency, live
    bucket.save()


@dataclass(frozen=True)
class Comparison:
    """A shadow over a period, for pages and the API."""

    version: Any
    requests: int
    errors: int
    dropped: int
    rows: int
    agreement: float | None
    mean_shift: float | None
    p95_ms: float | None
    live_p95_ms: float | None
    flips: list[ShadowFlip]

    @property
    def title(self) -> str:
        return str(self.version.number)

    @property
    def flipped(self) -> int:
        return self.rows - round((self.agreement or 0) * self.rows)


def read(deployment_id: int, version: Any, since: datetime, *, examples: int = EXAMPLES) -> Comparison:
    """Two queries."""
    hours = list(
        ShadowBucket.objects.filter(deployment_id=deployment_id, version=version, at__gte=clock.floor(since, HOUR))
    )
    rows, shift_rows = sum(hour.rows for hour in hours), sum(hour.shift_rows for hour in hours)
    flips = ShadowFlip.objects.filter(deployment_id=deployment_id, version=version, at__gte=since)
    return Comparison(
        version,
        sum(hour.requests for hour in hours),
        sum(hour.errors for hour in hours),
        sum(hour.dropped for hour in hours),
        rows,
        sum(hour.agreed for hour in hours) / rows if rows else None,
        sum(hour.shift_sum for hour in hours) / shift_rows if shift_rows else None,
        traffic.percentile(traffic.merged(hour.latency for hour in hours), 0.95),
        traffic.percentile(traffic.merged(hour.live_latency for hour in hours), 0.95),
        list(flips.select_related("champion").order_by("-pk")[:examples]) if examples else [],
    )
