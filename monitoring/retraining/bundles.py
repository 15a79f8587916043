"""The bundle of code as it comes in: one file field of a form, streamed to disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from django.http import HttpRequest

from accounts.caller import Caller
from mlops.core import errors
from monitoring.models import RetrainingPolicy
from monitoring.retraining import policies
from registry import uploads
from registry.services import quotas
from registry.uploads import Part
from serving.models import Deployment

FIELD = "bundle"
PARTS = {
    FIELD: Part(
        "The bundle",
        policies.BUNDLE_ENDINGS,
        f"Send one of {' '.join(policies.BUNDLE_ENDINGS)}.",
        "DATASET_LIMIT_BYTES",
    )
}


@contextmanager
def upload(deployment: Deployment, request: HttpRequest) -> Iterator[None]:
    """While the form with the bundle is there. Raises what an upload raises."""
    with uploads.received(request, PARTS, admit=partial(quotas.require_room, deployment.organization)):
        yield


def taken(deployment: Deployment, caller: Caller, request: HttpRequest) -> RetrainingPolicy:
    """Take it over. Raises Invalid when there is none."""
    file = uploads.file_of(request, FIELD, PARTS)
    if file is None:
        raise errors.Invalid(
            "The form has no bundle.",
            code="file_missing",
            hint="Send it as the file field 'bundle'.",
            fields={FIELD: ["Choose a file."]},
        )
    return policies.put_bundle(deployment, caller, file)


def received(deployment: Deployment, caller: Caller, request: HttpRequest) -> RetrainingPolicy:
    """Both, for the API."""
    with upload(deployment, request):
        return taken(deployment, caller, request)
