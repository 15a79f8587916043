"""Git repositories that are connected: where they lie, what their webhook said, and what came of each push."""

from __future__ import annotations

from typing import Any, Self

from django.db import models
from django.db.models import Q

from accounts import sealing
from accounts.scoping import OrgOwned, OrgQuerySet
from mlops.core import clock, ids

_TOKEN, _SECRET, _APP_KEY = "source token", "source hook", "source app key"  # what a sealed text is for


class Source(OrgOwned):
    """A repository whose pushes become versions: one branch goes live as ``deployment``, every other one gets a preview."""

    class Kind(models.TextChoices):
        GITHUB = "github", "GitHub"
        GENERIC = "generic", "Any git server"

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    model = models.SlugField(max_length=63, help_text="The model's name in addresses; made with the first push.")
    deployment = models.SlugField(max_length=63, help_text="Made live by the production branch.")
    clone_url = models.CharField(max_length=300)
    branch = models.CharField(max_length=200, help_text="The production branch.")
    folder = models.CharField(max_length=300, blank=True, help_text="Of the model within the repository; empty: all.")
    previews = models.BooleanField(default=True, help_text="Other branches and pull requests get a preview.")

    token_user = models.CharField(max_length=100, blank=True, default="x-access-token")
    token_sealed = models.TextField(blank=True)
    app_id = models.CharField(max_length=40, blank=True, help_text="Of a GitHub App, instead of a token.")
    installation_id = models.CharField(max_length=40, blank=True)
    app_key_sealed = models.TextField(blank=True)

    secret_sealed = models.TextField()
    previous_secret_sealed = models.TextField(blank=True)
    previous_until = models.DateTimeField(null=True, blank=True)

    created_by = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    disabled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-pk",)
        constraints = (models.UniqueConstraint(fields=("organization", "deployment"), name="source_deployment_once"),)

    def __str__(self) -> str:
        return f"{self.clone_url} -> {self.deployment}"

    @property
    def repository(self) -> str:
        """``owner/name`` as its server calls it: the path of the address without ``.git``."""
        return self.clone_url.split("/", 3)[3].removesuffix("/").removesuffix(".git")

    # Secrets rest sealed; they are set and read here only.

    @property
    def token(self) -> str:
        return sealing.unseal(self.token_sealed, _TOKEN) if self.token_sealed else ""

    @token.setter
    def token(self, plain: str) -> None:
        self.token_sealed = sealing.seal(plain, _TOKEN) if plain else ""

    @property
    def app_key(self) -> str:
        """The App's private key (PEM)."""
        return sealing.unseal(self.app_key_sealed, _APP_KEY) if self.app_key_sealed else ""

    @app_key.setter
    def app_key(self, plain: str) -> None:
        self.app_key_sealed = sealing.seal(plain, _APP_KEY) if plain else ""

    def give_secret(self, plain: str, *, previous_until: Any = None) -> None:
        """A new webhook secret; the one before stays good until ``previous_until``."""
        if previous_until is not None:
            self.previous_secret_sealed, self.previous_until = self.secret_sealed, previous_until
        self.secret_sealed = sealing.seal(plain, _SECRET)

    def secrets(self) -> list[str]:
        """The webhook secrets that are good now, newest first."""
        good = [self.secret_sealed]
        if self.previous_until is not None and self.previous_until > clock.now():
            good.append(self.previous_secret_sealed)
        return [sealing.unseal(sealed, _SECRET) for sealed in good]


class SourceDelivery(models.Model):
    """A webhook call that was signed well. Its id comes once: a replay finds it here."""

    source = models.ForeignKey(Source, on_delete=models.CASCADE, related_name="deliveries")
    delivery_id = models.CharField(max_length=200)
    event = models.CharField(max_length=40)
    outcome = models.CharField(max_length=200)
    received_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        ordering = ("-pk",)
        constraints = (models.UniqueConstraint(fields=("source", "delivery_id"), name="source_delivery_once"),)
        indexes = (models.Index(fields=("received_at",), name="source_delivery_age"),)

    def __str__(self) -> str:
        return f"{self.event} {self.delivery_id}"


class PushStatus(models.TextChoices):
    QUEUED = "queued", "Queued"
    FETCHING = "fetching", "Fetching"
    VALIDATING = "validating", "Validating"
    DEPLOYING = "deploying", "Deploying"
    WAITING = "waiting", "Waiting for production"
    LIVE = "live", "Live"
    FAILED = "failed", "Failed"
    SUPERSEDED = "superseded", "Superseded"
    CLOSED = "closed", "Closed"


_ENDS = {PushStatus.FAILED, PushStatus.SUPERSEDED, PushStatus.CLOSED}
PUSH_MOVES = {
    PushStatus.QUEUED: {PushStatus.FETCHING, *_ENDS},
    PushStatus.FETCHING: {PushStatus.VALIDATING, *_ENDS},
    PushStatus.VALIDATING: {PushStatus.DEPLOYING, *_ENDS},
    PushStatus.DEPLOYING: {PushStatus.LIVE, PushStatus.WAITING, *_ENDS},
    PushStatus.WAITING: {PushStatus.DEPLOYING, *_ENDS},
    PushStatus.LIVE: {PushStatus.DEPLOYING, PushStatus.SUPERSEDED, PushStatus.CLOSED},  # its preview gets another name
    PushStatus.FAILED: {PushStatus.FETCHING, PushStatus.DEPLOYING, PushStatus.CLOSED},  # its job may be tried again
    PushStatus.SUPERSEDED: {PushStatus.CLOSED},
    PushStatus.CLOSED: set(),
}
UNVALIDATED = (PushStatus.QUEUED, PushStatus.FETCHING, PushStatus.VALIDATING)
ACTIVE = (*UNVALIDATED, PushStatus.DEPLOYING, PushStatus.WAITING, PushStatus.LIVE)


class PushQuerySet(OrgQuerySet):
    def active(self) -> Self:
        return self.filter(status__in=ACTIVE)


class SourcePush(OrgOwned):
    """One commit of one branch, from the push to its end. ``services.pushes.move`` is the one writer of ``status``."""

    source = models.ForeignKey(Source, on_delete=models.CASCADE, related_name="pushes")
    sha = models.CharField(max_length=64, blank=True, help_text="Empty until the branch's head has been asked for.")
    ref = models.CharField(
        max_length=250, help_text="refs/heads/... or refs/pull/.../head: where the commit is fetched."
    )
    branch = models.CharField(max_length=200)
    pull_request = models.PositiveIntegerField(null=True, blank=True)
    message = models.TextField(blank=True, help_text="Of the commit, as the webhook told it.")
    author = models.CharField(max_length=200, blank=True)
    production = models.BooleanField(help_text="Goes live; else it gets a preview.")
    status = models.CharField(max_length=12, choices=PushStatus.choices, default=PushStatus.QUEUED)
    version = models.ForeignKey(
        "registry.ModelVersion", on_delete=models.SET_NULL, null=True, blank=True, related_name="pushes"
    )
    preview = models.CharField(max_length=63, blank=True, help_text="The preview's name.")
    job = models.ForeignKey("jobs.Job", on_delete=models.SET_NULL, null=True, related_name="+")
    error = models.JSONField(null=True, blank=True, help_text="code, detail, hint: why it failed, or waits.")
    comment_id = models.PositiveBigIntegerField(null=True, blank=True, help_text="Of the pull request's comment.")
    report = models.JSONField(null=True, blank=True, help_text="What was told to the git server, and the parts of it.")
    created_by = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    fetched_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = PushQuerySet.as_manager()

    class Meta:
        verbose_name = "push"
        verbose_name_plural = "pushes"
        ordering = ("-pk",)
        constraints = (
            models.UniqueConstraint(
                fields=("source", "branch", "sha"),
                condition=Q(status__in=ACTIVE) & ~Q(sha=""),
                name="source_push_active_once",
            ),
        )
        indexes = (models.Index(fields=("source", "branch", "-id"), name="source_push_of_branch"),)

    def __str__(self) -> str:
        return f"{self.sha[:7] or 'head'} of {self.branch}"

    @property
    def ended(self) -> bool:
        """Nothing goes on any more (a live one may still be closed)."""
        return self.status not in (*UNVALIDATED, PushStatus.DEPLOYING)
