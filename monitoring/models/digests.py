"""Who wants to read what, and when."""

from __future__ import annotations

from django.db import models

from accounts.scoping import OrgOwned
from mlops.core import clock


class DigestSubscription(OrgOwned):
    class Frequency(models.TextChoices):
        DAILY = "daily", "Daily"
        WEEKLY = "weekly", "Weekly"
        NEVER = "never", "Never"

    user = models.ForeignKey("accounts.User", on_delete=models.CASCADE, related_name="+")
    frequency = models.CharField(max_length=10, choices=Frequency.choices, default=Frequency.WEEKLY)
    alerts = models.BooleanField(default=True, help_text="Also send incident mails.")
    last_period = models.CharField(max_length=20, blank=True, help_text="The day or ISO week last sent: never twice.")
    last_sent_at = models.DateTimeField(null=True, blank=True)
    changed_at = models.DateTimeField(
        default=clock.now, help_text="Since when the frequency holds: periods that ended before are not sent."
    )

    class Meta:
        constraints = (models.UniqueConstraint(fields=("organization", "user"), name="digest_once"),)

    def __str__(self) -> str:
        return f"{self.user}: {self.frequency}"
