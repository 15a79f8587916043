"""Why it drifts, for scripts: part of ``GET drift``. Aggregates only: rows of the log have their own address and right."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from monitoring.causes import words
from monitoring.models import DriftCheck


class DriftEffectSerializer(serializers.Serializer):
    """With its 95 % interval; of classes a share of the predictions, of numbers standard deviations."""

    effect = serializers.FloatField()
    low = serializers.FloatField()
    high = serializers.FloatField()


class DriftCauseSerializer(serializers.Serializer):
    code = serializers.CharField(help_text="See docs/causes.md.")
    sentence = serializers.CharField()
    share = serializers.FloatField(help_text="Of the rows it explains, 0 to 1.")


class CausedColumnSerializer(serializers.Serializer):
    name = serializers.CharField()
    psi = serializers.FloatField(allow_null=True)
    effect = DriftEffectSerializer(allow_null=True)
    causes = DriftCauseSerializer(many=True)


class MovedFromSerializer(serializers.Serializer):
    """The one source of the moved rows."""

    kind = serializers.ChoiceField(choices=["key", "hour", "via", "version"])
    value = serializers.CharField()
    sentence = serializers.CharField()
    of_moved = serializers.FloatField(help_text="Share of the moved rows that came from it.")
    of_all = serializers.FloatField(help_text="Share of all rows that came from it.")


class WorstSliceSerializer(serializers.Serializer):
    """The slice of rows where it is worst."""

    conditions = serializers.ListField(child=serializers.CharField())
    sentence = serializers.CharField()
    rows = serializers.IntegerField()
    inside = serializers.FloatField()
    outside = serializers.FloatField()
    p_value = serializers.FloatField(help_text="Corrected for the slices that were looked at.")


class DriftSinceSerializer(serializers.Serializer):
    at = serializers.DateTimeField()
    at_least = serializers.BooleanField(help_text="It may have begun earlier.")
    exact = serializers.BooleanField(help_text="To the row; else to the hour.")
    sentence = serializers.CharField()


class DriftCausesSerializer(serializers.Serializer):
    """Columns by their effect on the predictions (by PSI where ``order`` says so), causes of the whole table apart."""

    order = serializers.ChoiceField(choices=["effect", "psi"])
    effect = serializers.CharField(help_text="classes, numbers, or why it was not measured.")
    sentence = serializers.CharField()
    table = DriftCauseSerializer(many=True)
    columns = CausedColumnSerializer(many=True)
    together = DriftEffectSerializer(allow_null=True)
    source = MovedFromSerializer(allow_null=True)
    segment = WorstSliceSerializer(allow_null=True)
    errors = WorstSliceSerializer(allow_null=True, help_text="The slice with most wrong answers, where feedback came.")
    since = DriftSinceSerializer(allow_null=True)


def causes_of(check: DriftCheck) -> dict[str, Any] | None:
    """What ``DriftCausesSerializer`` shows; None for a check that found nothing to explain."""
    kept = check.facts.get("causes")
    if not kept:
        return None
    effect = kept["effect"]
    answer = {name: kept[name] for name in ("order", "table", "columns", "source", "segment", "errors", "since")}
    answer |= {
        "effect": effect.get("kind") or effect.get("why") or "",
        "together": effect.get("together"),
        "sentence": words.why(kept),
    }
    return dict(DriftCausesSerializer(answer).data)
