"""People, organisations, and what they may do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar, Self

from django.contrib.auth.base_user import BaseUserManager
from django.contrib.auth.models import AbstractUser
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import OuterRef, Q, Subquery
from django.db.models.functions import Lower

from accounts.roles import Role
from accounts.scoping import OrgOwned, OrgQuerySet
from mlops.core import clock

EXPIRES_SOON = timedelta(days=7)
LARGEST_RATE = 100_000_000  # calls a minute: more than any machine answers


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractUser):
    """A person. The mail address is the name to sign in with."""

    username = None
    first_name = None
    last_name = None
    email = models.EmailField("e-mail", unique=True)
    name = models.CharField("display name", max_length=120, blank=True)
    time_zone = models.CharField(
        max_length=64, blank=True, default="", db_default="", help_text="IANA name; empty until a browser has said it."
    )

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects: ClassVar[UserManager] = UserManager()

    class Meta:
        constraints = (models.UniqueConstraint(Lower("email"), name="user_email_once"),)

    def __str__(self) -> str:
        return self.name or self.email


class Organization(models.Model):
    """A tenant: everything else belongs to exactly one."""

    slug = models.SlugField(max_length=63, unique=True)
    name = models.CharField(max_length=120)
    personal = models.BooleanField(default=False)
    calls_per_minute = models.PositiveIntegerField(
        "predictions a minute",
        null=True,
        blank=True,
        validators=(MinValueValidator(1), MaxValueValidator(LARGEST_RATE)),
        help_text="Calls of all its keys and people together; empty: the server's default.",
    )
    storage_limit_bytes = models.PositiveBigIntegerField(
        "storage in bytes",
        null=True,
        blank=True,
        help_text="Files of its models and data, each content once, and uploads under way; 0: no limit; empty: the server's default.",
    )
    version_limit = models.PositiveIntegerField(
        "model versions", null=True, blank=True, help_text="0: no limit; empty: the server's default."
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)
    members = models.ManyToManyField(User, through="Membership", related_name="organizations")

    class Meta:
        ordering = ("name", "pk")

    def __str__(self) -> str:
        return self.name


class Membership(OrgOwned):
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("organization", "user"), name="membership_once"),)

    def __str__(self) -> str:
        return f"{self.user} in {self.organization}: {self.role}"


class Invitation(OrgOwned):
    """An open door for one mail address. The token is in the mail only; here is its sha256."""

    email = models.EmailField()
    role = models.CharField(max_length=10, choices=Role.choices)
    token_sha256 = models.CharField(max_length=64, unique=True)
    invited_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    sent_at = models.DateTimeField(
        null=True, blank=True, help_text="When the last mail left; empty while none could be sent."
    )
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(
                "organization",
                Lower("email"),
                condition=Q(accepted_at__isnull=True, revoked_at__isnull=True),
                name="invitation_open_once",
            ),
        )

    def __str__(self) -> str:
        return f"{self.email} to {self.organization}"

    @property
    def open(self) -> bool:
        return self.accepted_at is None and self.revoked_at is None

    @property
    def expired(self) -> bool:
        return self.expires_at <= clock.now()


class ApiKeyQuerySet(OrgQuerySet):
    def living(self) -> Self:
        """Neither revoked nor expired."""
        return self.filter(revoked_at=None).exclude(expires_at__lte=clock.now())

    def with_maker_role(self) -> Self:
        """Annotates ``maker_role``: the maker's role in the key's organisation today; None once they left or were switched off."""
        made_by = Membership.objects.filter(
            organization=OuterRef("organization"), user=OuterRef("created_by"), user__is_active=True
        )
        return self.annotate(maker_role=Subquery(made_by.values("role")[:1]))


class ApiKey(OrgOwned):
    """A key of an organisation: ``sk_live_<prefix>_<secret>``; only the sha256 of the secret is kept.

    A key never outranks its maker: it acts with the lower of its own role and the maker's role of today, and is refused
    once the maker has left the organisation.
    """

    name = models.CharField(max_length=120)
    prefix = models.CharField(max_length=8, unique=True)
    secret_sha256 = models.CharField(max_length=64)
    scopes = models.JSONField(default=list)
    role = models.CharField(
        max_length=10, choices=Role.choices, help_text="The role the key acts with: at most its maker's."
    )
    deployment = models.CharField(
        max_length=63, blank=True, help_text="Only this deployment may be called; empty: all."
    )
    calls_per_minute = models.PositiveIntegerField(
        "predictions a minute",
        null=True,
        blank=True,
        validators=(MinValueValidator(1), MaxValueValidator(LARGEST_RATE)),
        help_text="Calls with this key; empty: the server's default.",
    )
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    rotated_from = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="+")

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        ordering = ("-pk",)

    def __str__(self) -> str:
        return f"{self.name} (sk_live_{self.prefix}_…)"

    @property
    def status(self) -> str:
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is None:
            return "active"
        left = self.expires_at - clock.now()
        return "expired" if left <= timedelta(0) else "expiring" if left < EXPIRES_SOON else "active"

    @property
    def acting_role(self) -> Role | None:
        """The lower of the key's role and its maker's; None when the maker left. Asks the database unless annotated."""
        maker_role = self.maker_role if hasattr(self, "maker_role") else self._maker_role()
        return min(Role(self.role), Role(maker_role), key=lambda role: role.rank) if maker_role else None

    def _maker_role(self) -> str | None:
        return type(self).objects.with_maker_role().values_list("maker_role", flat=True).get(pk=self.pk)


class RefreshToken(models.Model):
    """One JWT session: the refresh token in use. Rotation replaces the jti; logout revokes the row, and with it the access tokens."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="refresh_tokens")
    session = models.UUIDField(unique=True)
    jti = models.UUIDField(unique=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.user} since {self.created_at:%Y-%m-%d}"


class AuditQuerySet(OrgQuerySet):
    """Reads and appends; nothing else."""

    def update(self, **kwargs: Any) -> int:
        raise AppendOnly

    def delete(self) -> tuple[int, dict[str, int]]:
        raise AppendOnly


class AppendOnly(TypeError):
    """Somebody tried to change or delete an audit event."""

    def __init__(self) -> None:
        super().__init__("Audit events are never changed or deleted.")


class AuditEvent(OrgOwned):
    """Who did what, append-only. ``hash`` chains each event to the one before it in its organisation. Written by ``accounts.audit``."""

    number = models.PositiveBigIntegerField()
    at = models.DateTimeField(default=clock.now, editable=False)
    actor = models.CharField(max_length=200)
    actor_ref = models.CharField(
        max_length=40, help_text="user:<id>, key:<prefix> or system; stays when the row it names is gone."
    )
    actor_user = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    actor_key = models.ForeignKey(ApiKey, on_delete=models.SET_NULL, null=True, related_name="+")
    action = models.CharField(max_length=60)
    subject_type = models.CharField(max_length=40, blank=True)
    subject_id = models.CharField(max_length=40, blank=True)
    subject_label = models.CharField(max_length=200, blank=True)
    detail = models.JSONField(default=dict)
    ip = models.GenericIPAddressField(null=True, blank=True)
    previous_hash = models.CharField(max_length=64, blank=True)
    hash = models.CharField(max_length=64)

    objects = AuditQuerySet.as_manager()

    class Meta:
        ordering = ("-pk",)
        constraints = (models.UniqueConstraint(fields=("organization", "number"), name="audit_number_once"),)
        indexes = (models.Index(fields=("organization", "action"), name="audit_by_action"),)

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.actor} {self.action} {self.subject_label}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.pk is not None:
            raise AppendOnly
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise AppendOnly


class AuditHead(models.Model):
    """The end of an organisation's chain: locked while an event is added, and proof when the last events were cut off."""

    organization = models.OneToOneField(Organization, on_delete=models.CASCADE, primary_key=True, related_name="+")
    number = models.PositiveBigIntegerField(default=0)
    hash = models.CharField(max_length=64, blank=True)

    def __str__(self) -> str:
        return f"{self.organization}: {self.number}"


class RateBucket(models.Model):
    """What one caller used of one limit: this window, and the one before it. Written by one statement, see ``accounts.buckets``."""

    key = models.CharField(max_length=120, primary_key=True)
    started_ms = models.BigIntegerField()
    used = models.BigIntegerField()
    before = models.BigIntegerField()
    rate = models.BigIntegerField(db_default=0, help_text="The limit it was last asked with.")

    def __str__(self) -> str:
        return f"{self.key}: {self.used}"


class IdempotencyRecord(models.Model):
    """One creating call with an ``Idempotency-Key``: taken while it runs, then its answer, sealed, for 24 hours."""

    caller = models.CharField(max_length=40)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    claim = models.UUIDField()
    created_at = models.DateTimeField(default=clock.now, editable=False)
    status = models.PositiveSmallIntegerField(null=True)
    body = models.TextField(blank=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("caller", "key"), name="idempotency_key_once"),)
        indexes = (models.Index(fields=("created_at",), name="idempotency_by_age"),)

    def __str__(self) -> str:
        return f"{self.caller} {self.key}"
