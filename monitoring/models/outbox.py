"""Who was told: the outbox of mails and messages."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q

from accounts.scoping import OrgOwned
from mlops.core import clock
from monitoring.models.incidents import Incident


class Severity(models.TextChoices):
    INFO = "info", "Info"
    WARNING = "warning", "Warning"
    CRITICAL = "critical", "Critical"

    @classmethod
    def rank(cls, value: str) -> int:
        return cls.values.index(value) if value in cls.values else 0


class Notification(OrgOwned):
    """The outbox: written in the transaction of the change it tells of, delivered with retries, never twice."""

    class Status(models.TextChoices):
        WAITING = "waiting", "Waiting"
        SENDING = "sending", "Sending"
        SENT = "sent", "Sent"
        FAILED = "failed", "Failed"

    dedupe_key = models.CharField(max_length=200, unique=True)
    channel = models.CharField(max_length=20, default="email")
    target = models.ForeignKey(
        "monitoring.Channel", on_delete=models.CASCADE, null=True, blank=True, related_name="notifications",
        help_text="Empty: a mail to a person.",
    )  # fmt: skip
    type = models.CharField(max_length=40, blank=True, db_default="", help_text="e.g. incident.opened")
    severity = models.CharField(max_length=10, choices=Severity.choices, blank=True, db_default="")
    payload = models.JSONField(default=dict, db_default={}, help_text="data of a webhook's message")
    user = models.ForeignKey("accounts.User", on_delete=models.CASCADE, related_name="+", null=True)
    recipient = models.CharField(max_length=254)
    subject = models.CharField(max_length=300)
    text = models.TextField()
    html = models.TextField(blank=True)
    headers = models.JSONField(default=dict)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(default=clock.now)
    claimed_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)
    incident = models.ForeignKey(Incident, on_delete=models.SET_NULL, null=True, related_name="notifications")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-pk",)
        indexes = (
            models.Index(fields=("next_at",), condition=Q(status="waiting"), name="notification_due"),
            models.Index(fields=("target", "-id"), name="notification_of_channel"),
            models.Index(fields=("created_at",), name="notification_age"),
            models.Index(fields=("claimed_at",), condition=Q(status="sending"), name="notification_claimed"),
        )

    @property
    def last_try(self) -> Any:
        """The newest Attempt, or None. Of rows whose ``tries`` were prefetched."""
        return next(reversed(self.tries.all()), None)

    @property
    def waits(self) -> bool:
        """It will be tried (again)."""
        return self.status in (self.Status.WAITING, self.Status.SENDING)

    def __str__(self) -> str:
        return f"{self.recipient}: {self.subject}"
