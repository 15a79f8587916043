"""What the drift page shows: one check of one version, seen in one of its windows, and what came before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from mlops.core import errors
from monitoring import column_history, lookback
from monitoring.lookback import Range
from monitoring.models import DriftCheck
from registry.models import ModelVersion
from serving.models import Deployment

MOVED = ("warning", "drift")
CHECKS_SHOWN = 20
COLUMN_CELLS = ("name", "role", "kind", "severity", "psi", "kl", "js", "hellinger", "wasserstein", "wasserstein_normed", "ks", "p_value",
                "alpha", "significant", "since", "cause")  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """What the address asks for: ``?range=7d&version=3&window=24h&column=amount``. Every part may be absent."""

    range: Range
    version: int | None = None
    window: str = ""
    column: str = ""

    def query(self, **changes: Any) -> str:
        """The address's query with some of it changed; empty parts are left out."""
        parts = {"range": self.range.code, "version": self.version, "window": self.window, "column": self.column}
        return "?" + urlencode({name: value for name, value in {**parts, **changes}.items() if value})


def choice(asked: Mapping[str, str]) -> Choice:
    """Read a query string. Raises Invalid for what there cannot be; an unknown column or window shows none."""
    number = asked.get("version", "")
    if number and not (number.isdecimal() and len(number) < 10):
        raise errors.Invalid(f"version={number!r} is no version.", hint="Write its number, like version=3.")
    version = int(number) if number else None
    return Choice(lookback.chosen(asked.get("range")), version, asked.get("window", ""), asked.get("column", ""))


def check_of(deployment: Deployment, wanted: Choice) -> DriftCheck | None:
    """The newest check of the version that was asked for; without one, of the version it is worst for."""
    rows = DriftCheck.objects.filter(deployment=deployment).select_related("version", "baseline")
    return (rows.filter(version__number=wanted.version) if wanted.version else rows).first()


def versions(deployment: Deployment, check: DriftCheck | None) -> list[ModelVersion]:
    """The versions that answer, and the one that is shown."""
    found = {route.version.number: route.version for route in deployment.routes.all() if not route.shadow}
    if check is not None:
        found.setdefault(check.version.number, check.version)
    return [version for _, version in sorted(found.items(), reverse=True)]


# -- windows --------------------------------------------------------------------------------------------------------


def windows_of(check: DriftCheck) -> list[dict[str, Any]]:
    """Every window the check judged, shortest first: code, name, verdict, rows, sentence, and whether it is the one that is told."""
    return [
        {
            "code": lookback.code(each["minutes"]),
            "name": lookback.named(each["minutes"]),
            "verdict": each["verdict"],
            "rows": each["rows"],
            "sentence": each["sentence"],
            "minutes": each["minutes"],
            "told": each["minutes"] == check.window_minutes,
        }
        for each in check.windows
    ]


def columns_in(check: DriftCheck, window: str) -> list[dict[str, Any]]:
    """The columns of a check in one of its windows (by code; empty or unknown: the one that is told), with histograms."""
    stored = next((each for each in check.windows if lookback.code(each["minutes"]) == window), None)
    if stored is None or not stored["columns"]:
        return list(check.columns)
    told = {column["name"]: column for column in check.columns}
    return [_as_told(column, told[column["name"]]) for column in stored["columns"] if column["name"] in told]


def _as_told(column: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    histogram = {**told["histogram"], "current": column["current"]}
    causes = [column["cause"]] if column["cause"] else []
    return {**column, "role": told["role"], "causes": causes, "histogram": histogram}


# -- files ----------------------------------------------------------------------------------------------------------


def column_rows(check: DriftCheck | None, window: str) -> Iterator[list[Any]]:
    """The column table as lines of a CSV."""
    yield list(COLUMN_CELLS)
    for column in columns_in(check, window) if check is not None else []:
        yield [column.get(name) for name in COLUMN_CELLS]


def history_rows(deployment: Deployment, wanted: Choice) -> Iterator[list[Any]]:
    """The checks of the range, oldest first; with a column chosen, the steps of its history."""
    if wanted.column:
        yield from _steps(deployment, wanted)
        return
    yield ["at", "version", "verdict", "window", "rows", "psi_inputs", "psi_outputs", "sentence"]
    for each in checks_in(deployment, wanted).order_by("at", "pk").iterator(chunk_size=500):
        window = lookback.code(each.window_minutes)
        yield [
            each.at.isoformat(),
            each.version.number,
            each.verdict,
            window,
            each.rows,
            each.psi_inputs,
            each.psi_outputs,
            each.sentence,
        ]


def _steps(deployment: Deployment, wanted: Choice) -> Iterator[list[Any]]:
    yield ["start", "column", "rows", "psi", "psi_by_chance"]
    check = check_of(deployment, wanted)
    if check is None or check.baseline is None:
        return
    for step in column_history.read(check.baseline, wanted.column, wanted.range.since, wanted.range.step):
        yield [step.start.isoformat(), wanted.column, step.rows, step.psi, step.by_chance]


def checks_in(deployment: Deployment, wanted: Choice) -> Any:
    """The range's checks (of the version, if one was asked for), without their columns."""
    rows = DriftCheck.objects.filter(deployment=deployment, at__gte=wanted.range.since).defer(
        "columns", "windows", "facts"
    )
    rows = rows.filter(version__number=wanted.version) if wanted.version else rows
    return rows.select_related("version")
