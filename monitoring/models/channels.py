"""Where an organisation's news goes beside mail: webhooks and chat services, and what each delivery said."""

from __future__ import annotations

from datetime import datetime

from django.db import models

from accounts import sealing
from accounts.scoping import OrgOwned
from mlops.core import clock, ids
from monitoring.models.outbox import Notification, Severity

_ADDRESS, _SECRET = "channel address", "channel secret"  # noqa: S105  what a sealed text is for


class Channel(OrgOwned):
    """One receiver. Its address is a secret (whoever has a chat's webhook address may write there): it rests sealed, ``place`` is shown."""

    class Kind(models.TextChoices):
        WEBHOOK = "webhook", "Webhook"
        SLACK = "slack", "Slack"
        TEAMS = "teams", "Microsoft Teams"
        DISCORD = "discord", "Discord"
        NTFY = "ntfy", "ntfy"
        PAGERDUTY = "pagerduty", "PagerDuty"

    class Event(models.TextChoices):
        """Groups of message types: ``retraining`` takes ``retraining.proposed``, too."""

        OPENED = "incident.opened", "An incident opens, or grows"
        REMINDER = "incident.reminder", "An incident is still open"
        RESOLVED = "incident.resolved", "An incident is over"
        RETRAINING = "retraining", "A retraining begins, ends, or asks for somebody"
        DEPLOYMENT = "deployment", "A version goes live, is rolled back, or a deployment stops"
        DIGEST = "digest", "The week is over: its digest"

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    kind = models.CharField(max_length=12, choices=Kind.choices)
    name = models.CharField(max_length=80)
    address_sealed = models.TextField()
    place = models.CharField(max_length=200, help_text="The address without what is secret in it.")
    secret_sealed = models.TextField(blank=True, help_text="webhook: signs; ntfy: the access token.")
    previous_secret_sealed = models.TextField(blank=True)
    previous_until = models.DateTimeField(null=True, blank=True)
    all_deployments = models.BooleanField(default=True)
    deployments = models.ManyToManyField("serving.Deployment", blank=True, related_name="+")
    least_severity = models.CharField(max_length=10, choices=Severity.choices, default=Severity.INFO)
    events = models.JSONField(default=list, help_text="Values of Event.")
    created_by = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    disabled_at = models.DateTimeField(null=True, blank=True)
    disabled_reason = models.TextField(blank=True)
    refused = models.BooleanField(default=False, help_text="It was switched off because its receiver refuses.")
    last_ok_at = models.DateTimeField(null=True, blank=True)
    failing_since = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("name", "pk")
        constraints = (models.UniqueConstraint(fields=("organization", "name"), name="channel_name_once"),)

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.name}"

    @property
    def enabled(self) -> bool:
        return self.disabled_at is None

    @property
    def state(self) -> str:
        """disabled, failing, ok or idle (nothing was sent yet)."""
        if self.disabled_at is not None:
            return "disabled"
        if self.failing_since is not None:
            return "failing"
        return "ok" if self.last_ok_at is not None else "idle"

    def wants(self, kind: str, severity: str) -> bool:
        """Whether a message of this type and severity is for it."""
        group = any(kind == each or kind.startswith(f"{each}.") for each in self.events)
        return group and Severity.rank(severity) >= Severity.rank(self.least_severity)

    # Secrets rest sealed; they are set and read here only.

    @property
    def address(self) -> str:
        return sealing.unseal(self.address_sealed, _ADDRESS)

    @address.setter
    def address(self, plain: str) -> None:
        self.address_sealed = sealing.seal(plain, _ADDRESS)

    def give_secret(self, plain: str, *, previous_until: datetime | None = None) -> None:
        """A new secret; the one before stays good until ``previous_until``."""
        if previous_until is not None:
            self.previous_secret_sealed, self.previous_until = self.secret_sealed, previous_until
        self.secret_sealed = sealing.seal(plain, _SECRET) if plain else ""

    def secrets(self) -> list[str]:
        """The secrets that are good now, newest first."""
        good = [self.secret_sealed] if self.secret_sealed else []
        if self.previous_until is not None and self.previous_until > clock.now():
            good.append(self.previous_secret_sealed)
        return [sealing.unseal(sealed, _SECRET) for sealed in good]


class Attempt(models.Model):
    """One try of one message to a channel."""

    notification = models.ForeignKey(Notification, on_delete=models.CASCADE, related_name="tries")
    at = models.DateTimeField(default=clock.now, editable=False)
    outcome = models.CharField(max_length=10, help_text="sent, put_off or failed")
    status = models.PositiveSmallIntegerField(null=True, help_text="HTTP status; empty: no answer came.")
    duration_ms = models.PositiveIntegerField()
    reply = models.TextField(blank=True, help_text="The beginning of the answer.")
    error = models.TextField(blank=True)

    class Meta:
        ordering = ("pk",)

    def __str__(self) -> str:
        return f"{self.outcome} {self.status or ''}"


class BellNotice(OrgOwned):
    """One line below the bell of one person. About one thing there is one line: news of it brings the same line back to the top."""

    user = models.ForeignKey("accounts.User", on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=120, help_text="What it is about, e.g. incident:7.")
    needs = models.CharField(max_length=30, help_text="The action whoever reads it must be allowed.")
    severity = models.CharField(max_length=10, choices=Severity.choices, default=Severity.INFO)
    title = models.CharField(max_length=300)
    text = models.TextField(blank=True)
    path = models.CharField(max_length=300, blank=True)
    at = models.DateTimeField(default=clock.now)
    read_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-at", "-pk")
        constraints = (models.UniqueConstraint(fields=("organization", "user", "key"), name="bell_notice_once"),)
        indexes = (
            models.Index(fields=("user", "organization", "-at"), name="bell_notice_recent"),
            models.Index(fields=("at",), name="bell_notice_age"),
        )

    def __str__(self) -> str:
        return self.title
