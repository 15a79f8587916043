"""What the checks of a validation share: one run over one version, its clock, and how the sandboxed model is asked."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import orjson
from django.conf import settings
from django.db.models import Model

from mlops.core import errors
from mlops.core.storable import storable
from mlops.runtime import inspect
from mlops.runtime.host import HostError, HostUnavailable, LoadInfo, ModelHost, ModelSpec, Reply, get_host
from registry.models import Dataset, Finding, ModelVersion, VersionStatus
from registry.services import artifacts

if TYPE_CHECKING:
    from mlops.jobs.runner import JobRun
    from registry.profiling import Table

Level = Finding.Level
HOST_WAIT_S = 15.0  # a runner host that is just being restarted


@dataclass(frozen=True)
class Said:
    """One line of a check's answer."""

    message: str
    level: str = Level.OK
    hint: str = ""


@dataclass
class Validation:
    """One run of all checks over one version, and what the checks hand to each other."""

    version: ModelVersion
    run: JobRun
    host: ModelHost = field(default_factory=get_host)
    report: inspect.Report = field(default_factory=inspect.Report)
    describe: dict[str, Any] = field(default_factory=dict)
    schema: dict[str, Any] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    notes: list[Said] = field(default_factory=list)
    tables: dict[str, Table | errors.SlipwayError | None] = field(default_factory=dict)
    deadline: float = field(default_factory=lambda: time.monotonic() + settings.VALIDATION_S)

    def remaining_s(self) -> float:
        """Seconds left of the whole validation. Raises Invalid when there are none."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            refuse(
                "validation_timeout",
                f"The validation took longer than {settings.VALIDATION_S} seconds.",
                "Push a smaller model or reference, or ask your administrator to raise SLIPWAY_VALIDATION_S.",
            )
        return left

    def save(self, **facts: Any) -> None:
        """Write what was measured, as long as this version is being validated: a late worker changes nothing."""
        self.run.beat()
        kept = {name: value if isinstance(value, Model) else storable(value) for name, value in facts.items()}
        for name, value in kept.items():
            setattr(self.version, name, value)
        ModelVersion.objects.filter(pk=self.version.pk, status=VersionStatus.VALIDATING).update(**kept)

    def key(self, what: str) -> str:
        """A cache key that only this attempt uses; its runner is ended afterwards."""
        key = f"check-{self.run.job_id}-{self.run.attempt}-{self.version.sha256[:12]}-{what}"
        if key not in self.keys:
            self.keys.append(key)
        return key

    @cached_property
    def path(self) -> Path:
        return artifacts.materialise(self.version)

    def spec(self, what: str, schema: dict[str, Any] | None) -> ModelSpec:
        within = artifacts.limits(load_s=min(settings.MODEL_LOAD_S, self.remaining_s()))
        return artifacts.made(self.version, key=self.key(what), schema=schema, within=within)

    def table_spec(self, dataset: Dataset, reply_bytes: int) -> ModelSpec:
        path = artifacts.materialise(dataset)
        limits = artifacts.limits(load_s=self.remaining_s(), reply_bytes=reply_bytes)
        return ModelSpec(self.key(f"table{dataset.pk}"), str(path), dataset.sha256, "table", limits=limits)

    @cached_property
    def ready_spec(self) -> ModelSpec:
        """The model with the schema in force."""
        return self.spec("smoke", self.schema)

    def ensure(self, spec: ModelSpec) -> LoadInfo:
        """Load, waiting a little for a runner host that is being restarted."""
        until = time.monotonic() + min(HOST_WAIT_S, self.remaining_s())
        while True:
            try:
                return self.host.ensure(spec)
            except HostUnavailable:
                if time.monotonic() > until:
                    raise
                self.run.beat()
                time.sleep(0.5)

    def end_runners(self) -> None:
        """End every runner this validation started; a host that is gone has none."""
        for key in self.keys:
            with contextlib.suppress(HostError):
                self.host.unload(key)


def refuse(code: str, detail: str, hint: str = "", fields: list[dict[str, Any]] | None = None) -> NoReturn:
    raise errors.Invalid(detail, code=code, hint=hint, fields=fields)


def answer(reply: Reply, what: str) -> dict[str, Any]:
    """The runner's JSON; its problem becomes ours, with ``what`` in front. Raises Invalid."""
    body: dict[str, Any] = orjson.loads(reply.body)
    if reply.status != 200:
        refuse(
            str(body.get("code", "model_error")),
            f"{what}{body.get('detail', 'The model failed.')}",
            str(body.get("hint", "")),
            body.get("errors"),
        )
    return body
