"""What people do with a connected repository: connect, change, give it a new secret, disconnect."""

from __future__ import annotations

import base64
import secrets as random_secrets
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction

from accounts import audit
from accounts.caller import Caller
from accounts.models import Organization
from mlops.core import clock, errors
from registry.git import address
from registry.metadata import slug
from registry.models import Source, SourceDelivery, SourcePush
from registry.services import pushes
from registry.signals import push_moved

MOST = 200  # of one organisation
OVERLAP = timedelta(hours=24)  # how long the secret before stays good, unless somebody says otherwise
_MOST_TOLD_AGAIN = 20
_MOST_CHARS = {"token": 1000, "app_key": 20_000}


def connect(  # noqa: PLR0913  a row, field by field
    organization: Organization, caller: Caller, *, kind: str, clone_url: str, model: str, deployment: str = "",
    branch: str = "main", folder: str = "", previews: bool = True, **credentials: str,
) -> tuple[Source, str]:  # fmt: skip
    """A new source and its webhook secret, which cannot be read again. Nothing is fetched yet.

    ``credentials``: token and token_user, or app_id, installation_id and app_key. Raises Invalid, Conflict.
    """
    deployment = deployment or model
    slug(model, "The model name", "model")
    slug(deployment, "The deployment name", "deployment")
    row = Source(
        organization=organization,
        kind=kind,
        clone_url=address.clone_url(clone_url, github=kind == Source.Kind.GITHUB),
        model=model,
        deployment=deployment,
        branch=address.branch(branch),
        folder=address.folder(folder),
        previews=previews,
        created_by=caller.person,
    )
    _open_with(row, credentials)
    secret = _new_secret(row)
    row.give_secret(secret)
    try:
        with transaction.atomic():
            if Source.objects.filter(organization=organization).count() >= MOST:
                raise errors.Conflict(
                    f"{MOST} repositories are connected already.", code="too_many_sources", hint="Disconnect one."
                )
            row.save(force_insert=True)
            audit.record(organization, caller, "source.connected", row, url=row.clone_url, branch=row.branch)
    except IntegrityError as error:
        text = "Another repository deploys there already."
        raise errors.Conflict(
            f"The deployment {deployment!r} is fed by another source.",
            code="source_exists",
            hint="Choose another deployment name, or disconnect that source first.",
            fields={"deployment": [text]},
        ) from error
    return row, secret


def change(source: Source, caller: Caller, **changes: Any) -> Source:
    """``branch``, ``previews``, ``enabled`` and the credentials of ``connect``; what is not named stays. Raises Invalid."""
    with transaction.atomic():
        row = Source.objects.select_for_update().get(pk=source.pk)  # a secret that was rotated meanwhile stays
        if "branch" in changes:
            row.branch = address.branch(changes["branch"])
        if "previews" in changes:
            row.previews = changes["previews"]
        if "enabled" in changes:
            row.disabled_at = None if changes["enabled"] else row.disabled_at or clock.now()
        _open_with(row, {name: changes[name] for name in _CREDENTIALS if name in changes})
        row.save()
        audit.record(row.organization, caller, "source.changed", row, changed=sorted(changes))
        if any(name in changes for name in _CREDENTIALS):
            _tell_again(row)
    return row


def _tell_again(source: Source) -> None:
    """What the git server did not take with the credential before."""
    untold = SourcePush.objects.filter(source=source, report__trouble__code__isnull=False).order_by("-pk")
    for push in untold[:_MOST_TOLD_AGAIN]:
        push_moved.send(sender=SourcePush, push=push)


def rotate_secret(source: Source, caller: Caller, *, overlap: timedelta = OVERLAP) -> str:
    """A new webhook secret, shown once; the present one stays good for ``overlap``, the one before it is void at once."""
    secret = _new_secret(source)
    with transaction.atomic():
        locked = Source.objects.select_for_update().get(pk=source.pk)
        locked.give_secret(secret, previous_until=clock.now() + overlap)
        locked.save(update_fields=["secret_sealed", "previous_secret_sealed", "previous_until"])
        audit.record(source.organization, caller, "source.secret_rotated", source, until=locked.previous_until)
    source.refresh_from_db()
    return secret


def disconnect(source: Source, caller: Caller) -> None:
    """Its webhook is unknown from now on, its previews go. Versions and the deployment stay."""
    with transaction.atomic():
        list(Source.objects.select_for_update().filter(pk=source.pk))  # before its pushes, as who goes live does
        pushes.close_all(source)
        audit.record(source.organization, caller, "source.disconnected", source, url=source.clone_url)
        source.delete()


def forget_deliveries() -> None:
    """Signed times bound a replay of the generic webhook to minutes. GitHub signs no time: its delivery ids are kept for good."""
    old = clock.now() - timedelta(days=1)
    SourceDelivery.objects.filter(source__kind=Source.Kind.GENERIC, received_at__lt=old).delete()


_CREDENTIALS = ("token", "token_user", "app_id", "installation_id", "app_key")


def _open_with(row: Source, given: dict[str, str]) -> None:
    for name, value in given.items():
        setattr(row, name, _credential(name, value))
    if len({bool(row.app_id), bool(row.installation_id), bool(row.app_key_sealed)}) > 1:
        raise errors.Invalid(
            "A GitHub App needs its id, the id of its installation and its private key.",
            fields={"app_id": ["Give all three, or none."]},
        )


def _credential(name: str, value: str) -> str:
    """What may stand in a header, an address or a PEM file. Raises Invalid."""
    text = value.replace("\r\n", "\n").strip()
    lines = text.split("\n") if name == "app_key" else [text]
    plain = text.isascii() and all(line.isprintable() for line in lines) and len(text) <= _MOST_CHARS.get(name, 100)
    if name in ("app_id", "installation_id"):
        plain = plain and (text.isdigit() or not text)
    if name == "app_key" and text:
        plain = plain and lines[0].startswith("-----BEGIN ") and lines[-1].startswith("-----END ")
    if name == "token_user":
        plain = plain and ":" not in text
    if not plain:
        raise errors.Invalid(f"The {name.replace('_', ' ')} is not valid.", fields={name: ["This is not one."]})
    return text


def _new_secret(row: Source) -> str:
    """GitHub takes any text; the others use the form of the Standard Webhooks specification."""
    if row.kind == Source.Kind.GITHUB:
        return random_secrets.token_urlsafe(32)
    return "whsec_" + base64.b64encode(random_secrets.token_bytes(32)).decode()
