"""Which versions a version was made from."""

from __future__ import annotations

from collections.abc import Iterable

from mlops.core import errors
from registry.models import ModelVersion, Parent


def record_parents(version: ModelVersion, parents: Iterable[tuple[str, int]]) -> None:
    """Write down (model, version) pairs; part of the push. Raises Invalid unless each is an earlier version of the same organisation.

    A version can only name what was there before it, so no chain of parents ever comes back to where it began.
    """
    for model, number in parents:
        rows = ModelVersion.objects.filter(organization=version.organization_id, model__slug=model, number=number)
        found = rows.filter(pk__lt=version.pk).first()
        if found is None:
            itself = " That is this version itself." if rows.exists() else ""
            message = f"There is no earlier version {number} of {model[:63]!r} to be made from.{itself}"
            raise errors.Invalid(
                message,
                code="parent_not_found",
                hint='Name versions of this organisation that were pushed before: "parents": [{"model": "churn", "version": 3}].',
                fields={"metadata": [message]},
            )
        Parent.objects.create(version=version, parent=found)
