"""Forms of the account pages: they read what people typed. What is allowed is decided by the services."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import forms

from accounts import time_zones
from accounts.roles import Role, Scope
from mlops.core import clock, errors

ROLE_HELP = {
    Role.VIEWER: "sees models, deployments and incidents, and may predict",
    Role.DEVELOPER: "pushes models, deploys, makes API keys",
    Role.ADMIN: "also manages members, reads the audit log",
    Role.OWNER: "also makes and removes owners",
}
_SCOPE_HELP = {
    Scope.PREDICT: "Predict: call deployments",
    Scope.READ: "Read: lists, versions, drift, logs",
    Scope.WRITE: "Write: push models, deploy, roll back",
    Scope.ADMIN: "Admin: members, keys, audit log",
}
_LIFETIMES_DAYS = (30, 90, 365)


def roles_up_to(role: Role) -> list[tuple[str, str]]:
    """What somebody of ``role`` may give: nothing above it."""
    return [(each.value, each.label) for each in Role if role.at_least(each)]


def tell(form: forms.Form, error: errors.SlipwayError) -> None:
    """Show what a service refused where it was typed, else above the form."""
    named = error.fields if isinstance(error.fields, dict) else {}
    for name, sentences in named.items():
        for sentence in sentences:
            form.add_error(name if name in form.fields else None, sentence)
    if not named:
        form.add_error(None, f"{error.detail} {error.hint}".strip())


class RenameForm(forms.Form):
    name = forms.CharField(label="Name", max_length=120)


class OrganizationForm(RenameForm):
    slug = forms.CharField(
        label="Address",
        required=False,
        max_length=63,
        help_text="Part of every URL: a-z, 0-9 and hyphens. It never changes. Empty: made from the name.",
        widget=forms.TextInput(attrs={"autocapitalize": "none", "spellcheck": "false"}),
    )


class AccountForm(forms.Form):
    name = forms.CharField(
        label="Your name",
        required=False,
        max_length=120,
        help_text="Members of your organisations see it; empty: your mail address.",
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )
    time_zone = forms.ChoiceField(
        label="Time zone",
        required=False,
        choices=lambda: [
            ("", "As this browser says"),
            *((each, each.replace("_", " ")) for each in time_zones.known()),
        ],
        help_text="Digest mails come at your local time.",
    )


class InviteForm(forms.Form):
    email = forms.EmailField(label="Mail address", widget=forms.EmailInput(attrs={"autocomplete": "off"}))
    role = forms.ChoiceField(label="Role", initial=Role.DEVELOPER)

    def __init__(self, mine: Role, data: Any = None) -> None:
        super().__init__(data)
        self.fields["role"].choices = roles_up_to(mine)

    def clean_role(self) -> Role:
        return Role(self.cleaned_data["role"])


class RoleForm(forms.Form):
    role = forms.ChoiceField(choices=Role.choices)


class KeyForm(forms.Form):
    name = forms.CharField(label="Name", max_length=120, help_text="Where it will be used, e.g. “shop backend”.")
    scopes = forms.MultipleChoiceField(
        label="It may", choices=list(_SCOPE_HELP.items()), widget=forms.CheckboxSelectMultiple, initial=[Scope.PREDICT]
    )
    lifetime_days = forms.TypedChoiceField(
        label="Expires",
        choices=[*((str(days), f"in {days} days") for days in _LIFETIMES_DAYS), ("0", "never")],
        coerce=int,
        initial="90",
    )
    deployment = forms.SlugField(
        label="Only this deployment",
        required=False,
        max_length=63,
        help_text="Its name; empty: all of the organisation.",
    )
    calls_per_minute = forms.IntegerField(
        label="Predictions a minute", required=False, min_value=1, help_text="Empty: the server's default."
    )

    def expires_at(self) -> datetime | None:
        days = self.cleaned_data["lifetime_days"]
        return clock.now() + timedelta(days=days) if days else None


class KeyLimitForm(forms.Form):
    calls_per_minute = forms.IntegerField(
        label="Predictions a minute", required=False, min_value=1, help_text="Empty: the server's default."
    )


class AuditFilterForm(forms.Form):
    """The filters in the address of the audit page; a value that fits nothing is left out."""

    action = forms.CharField(required=False, max_length=60, label="Action")
    actor = forms.CharField(required=False, max_length=200, label="Who")
