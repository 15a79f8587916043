"""Who let a version go on, and under which rule: dev -> staging -> production."""

from __future__ import annotations

from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import F, Q

from accounts.roles import Role
from accounts.scoping import OrgOwned
from mlops.core import clock

MOST_APPROVALS = 10


class Stage(models.TextChoices):
    """Where a version may answer. Every version is in dev; the others it is promoted to."""

    DEV = "dev", "Dev"
    STAGING = "staging", "Staging"
    PRODUCTION = "production", "Production"

    @property
    def rank(self) -> int:
        return list(Stage).index(self)


class PromotionPolicy(OrgOwned):
    """A model's rule for promotions. A model without one asks for nothing."""

    model = models.OneToOneField("registry.RegisteredModel", on_delete=models.CASCADE, related_name="promotion_policy")
    staging_approvals = models.PositiveSmallIntegerField(
        default=0, validators=(MaxValueValidator(MOST_APPROVALS),), help_text="How many people must approve; 0: nobody."
    )
    production_approvals = models.PositiveSmallIntegerField(
        default=0, validators=(MaxValueValidator(MOST_APPROVALS),), help_text="How many people must approve; 0: nobody."
    )
    author_may_approve = models.BooleanField(
        default=False, help_text="Whether who pushed the version, or asked for the promotion, counts too."
    )
    approver_role = models.CharField(
        max_length=10,
        choices=[choice for choice in Role.choices if choice[0] != Role.VIEWER],
        default=Role.ADMIN,
        help_text="The least role of who approves.",
    )
    required_checks = models.JSONField(
        default=list, blank=True, help_text="Checks of the validation that must have passed without a warning."
    )
    places = models.JSONField(
        default=dict, blank=True, help_text="Deployment -> dev or staging. Every other one is production."
    )
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = "promotion policy"
        constraints = (
            models.CheckConstraint(
                condition=Q(staging_approvals__lte=MOST_APPROVALS, production_approvals__lte=MOST_APPROVALS),
                name="policy_approvals_few",
            ),
        )

    def __str__(self) -> str:
        return f"{self.model}: {self.staging_approvals}, {self.production_approvals}"

    def approvals(self, stage: str) -> int:
        """How many people a promotion to this stage needs."""
        return {Stage.STAGING: self.staging_approvals, Stage.PRODUCTION: self.production_approvals}.get(Stage(stage), 0)

    def stage_of(self, place: str) -> Stage:
        """The stage a deployment's versions must have reached."""
        return Stage(self.places.get(place, Stage.PRODUCTION))


class Promotion(OrgOwned):
    """A version on its way to a stage. Approved ones carry a signature: the row alone convinces nobody."""

    class State(models.TextChoices):
        REQUESTED = "requested", "Waiting for approval"
        APPROVED = "approved", "Approved"
        REJECTED = "rejected", "Rejected"
        WITHDRAWN = "withdrawn", "Withdrawn"
        REVOKED = "revoked", "Revoked"

    version = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="promotions")
    from_stage = models.CharField(max_length=10, choices=Stage.choices)
    to_stage = models.CharField(max_length=10, choices=Stage.choices)
    state = models.CharField(max_length=10, choices=State.choices, default=State.REQUESTED)
    reason = models.CharField(max_length=500, blank=True)
    facts_sha256 = models.CharField(
        max_length=64, help_text="Of what the version's signature binds: another file is another promotion."
    )
    envelope = models.JSONField(null=True, help_text="DSSE, once approved.")
    requester = models.CharField(max_length=200)
    requested_by = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True, related_name="+")
    requested_at = models.DateTimeField(default=clock.now, editable=False)
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-pk",)
        constraints = (
            models.UniqueConstraint(
                fields=("version", "to_stage"), condition=Q(state="requested"), name="promotion_open_once"
            ),
            models.CheckConstraint(condition=~Q(to_stage="dev"), name="promotion_goes_up"),
            models.CheckConstraint(
                condition=~Q(state="approved") | Q(envelope__isnull=False), name="promotion_approved_is_signed"
            ),
        )
        indexes = (models.Index(fields=("organization", "state"), name="promotion_waiting"),)

    def __str__(self) -> str:
        return f"{self.version} to {self.to_stage}"

    @property
    def open(self) -> bool:
        return self.state == self.State.REQUESTED


class Approval(OrgOwned):
    """One person's word about a promotion, for good: who leaves or loses a role later does not take it back."""

    class Verdict(models.TextChoices):
        APPROVED = "approved", "Approved"
        REJECTED = "rejected", "Rejected"

    promotion = models.ForeignKey(Promotion, on_delete=models.CASCADE, related_name="approvals")
    person = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True, related_name="+")
    name = models.CharField(max_length=200, help_text="As it was; the person may be gone.")
    ref = models.CharField(max_length=40, help_text="user:<id>, whoever's key it was done with.")
    verdict = models.CharField(max_length=10, choices=Verdict.choices)
    comment = models.CharField(max_length=500, blank=True)
    facts_sha256 = models.CharField(max_length=64)
    at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        ordering = ("pk",)
        constraints = (models.UniqueConstraint(fields=("promotion", "ref"), name="approval_person_once"),)

    def __str__(self) -> str:
        return f"{self.name}: {self.verdict}"


class Parent(models.Model):
    """A version that another was made from. Parents are older rows: no chain of them comes back to where it began."""

    version = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="parents")
    parent = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="children")

    class Meta:
        ordering = ("pk",)
        constraints = (
            models.UniqueConstraint(fields=("version", "parent"), name="parent_once"),
            models.CheckConstraint(condition=Q(parent__lt=F("version")), name="parent_is_older"),
        )

    def __str__(self) -> str:
        return f"{self.version_id} from {self.parent_id}"
