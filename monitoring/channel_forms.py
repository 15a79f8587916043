"""Forms of the channel pages. The service judges what was typed."""

from __future__ import annotations

from typing import Any

from django import forms

from monitoring.channel_services import FIRST_EVENTS
from monitoring.channels.addresses import LOOKS
from monitoring.models import Channel, Severity
from serving.models import Deployment

_PLAIN = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
_SEVERITIES = (
    (Severity.INFO, "Everything"),
    (Severity.WARNING, "Warnings and what is critical"),
    (Severity.CRITICAL, "Only what is critical"),
)


class ChannelForm(forms.Form):
    name = forms.CharField(label="Name", max_length=80, widget=forms.TextInput(attrs=_PLAIN))
    address = forms.CharField(
        label="Address", max_length=2000, required=False, widget=forms.TextInput(attrs={**_PLAIN, "inputmode": "url"})
    )
    token = forms.CharField(
        label="Access token",
        max_length=200,
        required=False,
        widget=forms.PasswordInput(attrs=_PLAIN),
        help_text="ntfy: of a topic that asks for one.",
    )
    events = forms.MultipleChoiceField(
        label="Send when", choices=Channel.Event.choices, widget=forms.CheckboxSelectMultiple, initial=FIRST_EVENTS
    )
    least_severity = forms.ChoiceField(label="How bad", choices=_SEVERITIES, initial=Severity.INFO)
    deployments = forms.MultipleChoiceField(
        label="Only these deployments",
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="None: all of them.",
    )

    def __init__(self, *args: Any, organization: Any, channel: Channel | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        names = Deployment.objects.filter(organization=organization).order_by("name").values_list("name", flat=True)
        self.fields["deployments"].choices = [(name, name) for name in names]
        if not names:
            del self.fields["deployments"]
        if channel is not None:
            self.fields[
                "address"
            ].help_text = f"{channel.place}. Empty: it stays. A new one looks like {LOOKS[channel.kind]}"
            if channel.kind != Channel.Kind.NTFY:
                del self.fields["token"]
            else:
                self.fields["token"].help_text += " Empty: the one there is stays."

    def changes(self) -> dict[str, Any]:
        """For ``channel_services``: a secret that was not typed stays."""
        given = dict(self.cleaned_data)
        for name in ("address", "token"):
            if not given.get(name):
                given.pop(name, None)
        return given


class NewChannelForm(ChannelForm):
    field_order = ("kind", "name", "address", "token", "events", "least_severity", "deployments")

    kind = forms.ChoiceField(label="Kind", choices=Channel.Kind.choices)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["address"].required = True
        self.fields[
            "address"
        ].help_text = "What the service gives you: its webhook's address, a topic, or PagerDuty's integration key."
