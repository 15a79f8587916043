"""Rows that belong to an organisation, and the one way to a set of them: ``visible_to(caller)``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from django.db import models

if TYPE_CHECKING:
    from accounts.caller import Caller


class OrgQuerySet(models.QuerySet):
    def visible_to(self, caller: Caller) -> Self:
        """Rows of the caller's organisations; nobody sees nothing."""
        return self.filter(organization__in=caller.organization_ids)


class OrgOwned(models.Model):
    organization = models.ForeignKey("accounts.Organization", on_delete=models.CASCADE, related_name="+")

    objects = OrgQuerySet.as_manager()

    class Meta:
        abstract = True
