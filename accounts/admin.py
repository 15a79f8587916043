"""Organisations and people for the operator's staff. Secrets are not shown; the audit log and keys are read only; what staff change is audited."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db import models
from django.db.models import QuerySet
from django.forms import BaseModelFormSet, ModelForm
from django.http import HttpRequest

from accounts import audit, keys, trust
from accounts.addresses import client_ip
from accounts.caller import Caller
from accounts.models import ApiKey, AuditEvent, Invitation, Membership, Organization, User
from mlops.core import clock


def _staff(request: HttpRequest) -> Caller:
    return Caller(user=request.user, ip=client_ip(request))


class ReadOnly:
    """Look, do not touch."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class MembershipInline(admin.TabularInline):
    model = Membership
    extra = 0
    autocomplete_fields = ("user",)
    readonly_fields = ("created_at",)


@admin.register(Organization)
class OrganizationAdmin(admin.ModelAdmin):
    list_display = ("name", "slug", "personal", "member_count", "created_at")
    list_filter = ("personal",)
    search_fields = ("name", "slug", "members__email")
    readonly_fields = ("created_at",)
    inlines = (MembershipInline,)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return trust.may_found() and super().has_add_permission(request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Organization]:
        return super().get_queryset(request).annotate(member_count=models.Count("members"))

    def get_readonly_fields(self, request: HttpRequest, obj: Organization | None = None) -> tuple[str, ...]:
        return (*self.readonly_fields, "slug") if obj else self.readonly_fields  # addresses in use stay

    @admin.display(description="members", ordering="member_count")
    def member_count(self, row: Organization) -> int:
        return row.member_count

    def has_delete_permission(self, request: HttpRequest, obj: Organization | None = None) -> bool:
        return False  # its models, files and audit log would go unseen

    def save_model(self, request: HttpRequest, obj: Organization, form: ModelForm, change: bool) -> None:
        super().save_model(request, obj, form, change)
        keys.forget_cached()  # they carry the organisation's limit
        if form.changed_data or not change:
            audit.record(
                obj,
                _staff(request),
                "admin.organization_changed" if change else "admin.organization_created",
                obj,
                fields=form.changed_data,
            )

    def save_formset(self, request: HttpRequest, form: ModelForm, formset: BaseModelFormSet, change: bool) -> None:
        super().save_formset(request, form, formset, change)
        caller, organization = _staff(request), form.instance
        for made in formset.new_objects:
            audit.record(organization, caller, "admin.member_added", made.user, role=made.role)
        for changed, _ in formset.changed_objects:
            audit.record(organization, caller, "admin.member_changed", changed.user, role=changed.role)
        for gone in formset.deleted_objects:
            audit.record(organization, caller, "admin.member_removed", gone.user, role=gone.role)
        keys.forget_cached()


@admin.register(User)
class UserAdmin(DjangoUserAdmin):
    ordering = ("email",)
    list_display = ("email", "name", "is_active", "is_staff", "last_login", "date_joined")
    list_filter = ("is_active", "is_staff", "is_superuser")
    search_fields = ("email", "name")
    fieldsets = (
        (None, {"fields": ("email", "name", "password")}),
        ("Rights", {"fields": ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = ((None, {"classes": ("wide",), "fields": ("email", "usable_password", "password1", "password2")}),)
    readonly_fields = ("last_login", "date_joined")


@admin.register(Invitation)
class InvitationAdmin(ReadOnly, admin.ModelAdmin):
    list_display = (
        "email",
        "organization",
        "role",
        "invited_by",
        "created_at",
        "expires_at",
        "accepted_at",
        "revoked_at",
    )
    list_filter = ("role",)
    search_fields = ("email", "organization__name", "organization__slug")
    exclude = ("token_sha256",)


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnly, admin.ModelAdmin):
    list_display = (
        "name",
        "prefix",
        "organization",
        "role",
        "scopes",
        "status",
        "created_by",
        "last_used_at",
        "expires_at",
    )
    search_fields = ("name", "prefix", "organization__slug", "created_by__email")
    list_select_related = ("organization", "created_by")
    exclude = ("secret_sha256",)
    actions = ("revoke",)

    @admin.action(description="Revoke the chosen keys", permissions=["revoke"])
    def revoke(self, request: HttpRequest, rows: QuerySet[ApiKey]) -> None:
        living = list(rows.living().select_related("organization"))
        for row in living:
            if ApiKey.objects.filter(pk=row.pk, revoked_at=None).update(revoked_at=clock.now()):
                audit.record(row.organization, _staff(request), "key.revoked", row, prefix=row.prefix, by="staff")
        keys.forget_cached()
        self.message_user(
            request, f"{len(living)} keys revoked; they are refused everywhere within 5 seconds.", messages.SUCCESS
        )

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("accounts.change_apikey")


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("at", "organization", "number", "actor", "action", "subject_label", "ip")
    list_filter = ("action",)
    search_fields = ("actor", "subject_label", "organization__slug")
    list_select_related = ("organization",)
    date_hierarchy = "at"
