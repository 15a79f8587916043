"""Who wants to read what, and when."""

from __future__ import annotations

from django.core.validators import MaxValueValidator
from django.db import models

from accounts.scoping import OrgOwned
from mlops.core import clock


class DigestSubscription(OrgOwned):
    class Frequency(models.TextChoices):
        DAILY = "daily", "Daily"
        WEEKLY = "weekly", "Weekly"
        NEVER = "never", "Never"

    class Weekday(models.IntegerChoices):
        MONDAY = 0, "Monday"
        TUESDAY = 1, "Tuesday"
        WEDNESDAY = 2, "Wednesday"
        THURSDAY = 3, "Thursday"
        FRIDAY = 4, "Friday"
        SATURDAY = 5, "Saturday"
        SUNDAY = 6, "Sunday"

    user = models.ForeignKey("accounts.User", on_delete=models.CASCADE, related_name="+")
    frequency = models.CharField(max_length=10, choices=Frequency.choices, default=Frequency.WEEKLY)
    hour = models.PositiveSmallIntegerField(
        default=7, db_default=7, validators=(MaxValueValidator(23),), help_text="Local hour from which it is sent."
    )
    weekday = models.PositiveSmallIntegerField(
        choices=Weekday.choices, default=Weekday.MONDAY, db_default=0, help_text="Day on which a weekly one is sent."
    )
    alerts = models.BooleanField(default=True, help_text="Also send incident mails.")
    last_period = models.CharField(
        max_length=20, blank=True, help_text="Local day on which the period last sent ended: never twice."
    )
    last_sent_at = models.DateTimeField(null=True, blank=True)
    next_at = models.DateTimeField(
        null=True, blank=True, help_text="When the next one is due; empty: to be worked out."
    )
    changed_at = models.DateTimeField(
        default=clock.now, help_text="Since when the frequency holds: periods that ended before are not sent."
    )

    class Meta:
        constraints = (models.UniqueConstraint(fields=("organization", "user"), name="digest_once"),)
        indexes = (models.Index(fields=("next_at",), name="digest_due"),)

    def __str__(self) -> str:
        return f"{self.user}: {self.frequency}"
