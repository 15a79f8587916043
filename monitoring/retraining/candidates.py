"""Which version is a run's answer: the one whose metadata names it. A run takes one, and none that is the champion again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from mlops.core import clock
from monitoring.models import Retraining
from monitoring.retraining import runs
from monitoring.retraining.runs import State
from registry.models import ModelVersion

NOTHING_NEW = "Nothing new was learnt: the candidate is the live version again, byte for byte."
_VALIDATION = timedelta(hours=1)


class Known(Exception):
    """The run has its candidate already."""

    def __init__(self, version: ModelVersion) -> None:
        super().__init__(version.pk)
        self.version = version


def of(run: Retraining) -> ModelVersion | None:
    """The first version of the deployment's model that names this run and came after it began."""
    rows = ModelVersion.objects.filter(
        model=run.deployment.model_id, claims__retraining=run.pk, created_at__gte=run.created_at
    )
    return rows.select_related("model").order_by("pk").first()


def refuse_second(run: Retraining) -> None:
    """For the middle of a push, where no other push to the model goes on. Raises Known."""
    found = of(run)
    if found is not None:
        raise Known(found)


def accept(run: Retraining, version: ModelVersion) -> Retraining:
    """It is the candidate: on to its validation, unless it is the champion again."""
    if version.sha256 == run.champion.sha256:
        return runs.move(run, State.REJECTED, NOTHING_NEW, candidate=version)
    return runs.move(
        run, State.VALIDATING, f"Version {version.number} is the candidate.", candidate=version, due_at=clock.now() + _VALIDATION
    )  # fmt: skip


def same_content(one: ModelVersion, other: ModelVersion) -> bool:
    """Whether two validated versions are the same model in another wrapping: model file, code and dependencies alike."""
    return _content(one) == _content(other)


def _content(version: ModelVersion) -> tuple[Any, ...]:
    contents = version.contents
    if not contents:
        return (version.sha256, None, version.environment_id)
    hashes = {each["name"]: each["sha256"] for each in contents["members"]}
    if contents.get("code"):
        code = {name: digest for name, digest in hashes.items() if name.endswith(".py") and name != "train.py"}
        others = {
            name: digest
            for name, digest in hashes.items()
            if not name.endswith((".py", ".md", ".json", ".toml", ".csv"))
        }
        return (tuple(sorted(others.items())), tuple(sorted(code.items())), version.environment_id)
    return (hashes.get(contents.get("model") or ""), None, version.environment_id)
