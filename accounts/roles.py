"""Roles, in order, and one table of what each may do and which scope a key needs for it."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import models


class Role(models.TextChoices):
    VIEWER = "viewer", "Viewer"
    DEVELOPER = "developer", "Developer"
    ADMIN = "admin", "Admin"
    OWNER = "owner", "Owner"

    @property
    def rank(self) -> int:
        return _RANKS[self]

    def at_least(self, other: Role) -> bool:
        return self.rank >= other.rank


_RANKS = {role: rank for rank, role in enumerate(Role)}


class Scope(models.TextChoices):
    PREDICT = "predict", "Predict"
    READ = "read", "Read"
    WRITE = "write", "Write"
    ADMIN = "admin", "Admin"


@dataclass(frozen=True)
class Action:
    """Who may: the least role of a person, and the scope a key must carry."""

    role: Role
    scope: Scope


_V, _D, _A, _O = Role.VIEWER, Role.DEVELOPER, Role.ADMIN, Role.OWNER

ACTIONS: dict[str, Action] = {
    "org.view": Action(_V, Scope.READ),
    "org.manage": Action(_A, Scope.ADMIN),
    "org.delete": Action(_O, Scope.ADMIN),
    "members.view": Action(_V, Scope.READ),
    "members.manage": Action(_A, Scope.ADMIN),
    "keys.view": Action(_D, Scope.READ),
    "keys.manage": Action(_D, Scope.ADMIN),
    "audit.view": Action(_A, Scope.ADMIN),
    "model.view": Action(_V, Scope.READ),
    "model.write": Action(_D, Scope.WRITE),
    "model.archive": Action(_D, Scope.WRITE),
    "model.share": Action(_A, Scope.ADMIN),
    "version.download": Action(_D, Scope.READ),
    "version.approve": Action(_D, Scope.ADMIN),  # the model's own rule may ask for more
    "version.revoke": Action(_D, Scope.WRITE),
    "dataset.view": Action(_D, Scope.READ),
    "source.view": Action(_V, Scope.READ),
    "source.manage": Action(_A, Scope.ADMIN),  # it lets whoever may push to a repository deploy here
    "job.view": Action(_V, Scope.READ),
    "deployment.view": Action(_V, Scope.READ),
    "deployment.write": Action(_D, Scope.WRITE),
    "deployment.load": Action(_D, Scope.ADMIN),
    "deployment.predict": Action(_V, Scope.PREDICT),
    "logs.view": Action(_D, Scope.READ),
    "logs.delete": Action(_A, Scope.ADMIN),
    "drift.check": Action(_D, Scope.WRITE),
    "incident.view": Action(_V, Scope.READ),
    "incident.act": Action(_D, Scope.WRITE),
    "rule.write": Action(_D, Scope.WRITE),
    "channel.view": Action(_D, Scope.READ),
    "channel.manage": Action(_A, Scope.ADMIN),  # it sends what happens here to somewhere else
}
