"""Making and naming organisations, and one's own name."""

from __future__ import annotations

from django.db import IntegrityError, transaction

from accounts import audit, slugs, time_zones, trust
from accounts.caller import Caller
from accounts.models import Membership, Organization, User
from accounts.roles import Role
from mlops.core import errors

NAME_LENGTH = 120
_TRIES = 30


def clean_name(name: str, *, field: str = "name", what: str = "A name") -> str:
    """One line of 1 to 120 characters without control characters. Raises Invalid."""
    cleaned = " ".join("".join(each if each.isprintable() else " " for each in name).split())
    if not 1 <= len(cleaned) <= NAME_LENGTH:
        raise errors.Invalid(
            f"{what} has 1 to {NAME_LENGTH} characters.",
            code="name_invalid",
            fields={field: [f"Use 1 to {NAME_LENGTH} characters."]},
        )
    return cleaned


def create_organization(caller: Caller, *, name: str, slug: str = "") -> Organization:
    """A new organisation owned by the caller, a person. Without a slug one is made from the name. Raises Forbidden, Invalid, Conflict."""
    if caller.user is None:
        raise errors.Forbidden(
            "An API key belongs to one organisation and cannot make others.",
            code="person_needed",
            hint="Sign in to make an organisation.",
        )
    name = clean_name(name, what="An organisation's name")
    if not slug:
        return _with_free_slug(caller.user, caller, name=name, wish=name)
    slugs.check(slug)
    try:
        return _create(caller.user, caller, name=name, slug=slug)
    except IntegrityError:
        raise slugs.taken(slug) from None


def personal_organization(user: User, *, ip: str | None = None) -> Organization:
    """The workspace everybody gets at sign-up: "Ada's workspace", address ``ada``."""
    first = user.name.split(" ")[0] if user.name else user.email.partition("@")[0].partition("+")[0]
    shown = first if user.name else first.replace(".", " ").title()
    name = f"{shown[:100]}'s workspace" if shown else "My workspace"
    return _with_free_slug(user, Caller(user=user, ip=ip), name=name, wish=first, personal=True)


def _with_free_slug(user: User, caller: Caller, *, name: str, wish: str, personal: bool = False) -> Organization:
    for _, slug in zip(range(_TRIES), slugs.free_slugs(wish), strict=False):
        try:
            return _create(user, caller, name=name, slug=slug, personal=personal)
        except IntegrityError:  # somebody took it since
            continue
    raise errors.Conflict("No free address was found for this name.", code="slug_taken", hint="Choose another name.")


def _create(user: User, caller: Caller, *, name: str, slug: str, personal: bool = False) -> Organization:
    trust.require_may_found()
    with transaction.atomic():
        organization = Organization.objects.create(name=name, slug=slug, personal=personal)
        Membership.objects.create(organization=organization, user=user, role=Role.OWNER)
        audit.record(organization, caller, "organization.created", organization, personal=personal)
        trust.record(organization)
    return organization


def rename_organization(organization: Organization, caller: Caller, *, name: str) -> Organization:
    """The address stays: links and scripts go on working."""
    name = clean_name(name, what="An organisation's name")
    with transaction.atomic():
        before = organization.name
        Organization.objects.filter(pk=organization.pk).update(name=name)
        organization.name = name
        audit.record(organization, caller, "organization.renamed", organization, before=before, after=name)
    return organization


def change_user(user: User, *, name: str, time_zone: str = "") -> User:
    """The name others see (empty shows the mail address), and the zone of the mails' hours (empty: as the browser says next).

    Raises Invalid.
    """
    if time_zone and time_zone not in time_zones.known():
        raise errors.Invalid(
            f"There is no time zone {time_zone!r}.", hint="Choose one of the list, such as Europe/Berlin.",
            fields={"time_zone": ["is not the name of a time zone"]},
        )  # fmt: skip
    user.name, user.time_zone = clean_name(name) if name.strip() else "", time_zone
    user.save(update_fields=["name", "time_zone"])
    return user
