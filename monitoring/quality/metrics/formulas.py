"""A formula over a sample, its refusals in the product's words."""

from __future__ import annotations

from mlops.core import errors
from monitoring.drift.quality import expressions
from monitoring.drift.quality.expressions import Expression, ExpressionError
from monitoring.quality.answers import Answers
from monitoring.quality.metrics import rows
from monitoring.quality.metrics.rows import Sample
from serving.models import Deployment


def read(deployment: Deployment, text: str) -> Expression:
    """A formula whose names the live version knows. Raises Invalid that points at the place."""
    version = deployment.live_version
    classes = Answers.of(version.schema).labels if version is not None else ()
    try:
        return expressions.read(text, rows.known_names(version), list(classes))
    except ExpressionError as error:
        raise refused(text, error) from error


def value(text: str, formula: Expression, sample: Sample) -> float | None:
    """Raises Invalid."""
    try:
        return formula.value(rows.table(sample, sorted(formula.names), sorted(formula.classes)))
    except ExpressionError as error:
        raise refused(text, error) from error


def refused(text: str, error: ExpressionError) -> errors.Invalid:
    near = text.strip()[max(0, error.position - 1) : error.position + 19]
    where = f" (character {error.position}, at {near!r})" if error.position > 1 else ""
    message = f"{error.message}{where}"
    return errors.Invalid(message, code="bad_formula", hint=error.hint, fields={"source": [message]})
