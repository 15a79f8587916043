"""The settings pages of an organisation."""

from django.urls import path

from accounts.views import audit, invitations, keys, members, organizations

urlpatterns = [
    path("settings/", organizations.organization_settings, name="organization_settings"),
    path("settings/leave/", organizations.organization_leave, name="organization_leave"),
    path("settings/members/", members.member_list, name="member_list"),
    path("settings/members/<int:membership_id>/role/", members.member_role, name="member_role"),
    path("settings/members/<int:membership_id>/remove/", members.member_remove, name="member_remove"),
    path("settings/invitations/<int:invitation_id>/resend/", invitations.invitation_resend, name="invitation_resend"),
    path("settings/invitations/<int:invitation_id>/revoke/", invitations.invitation_revoke, name="invitation_revoke"),
    path("settings/keys/", keys.key_list, name="key_list"),
    path("settings/keys/<int:key_id>/revoke/", keys.key_revoke, name="key_revoke"),
    path("settings/keys/<int:key_id>/limit/", keys.key_limit, name="key_limit"),
    path("settings/keys/<int:key_id>/rotate/", keys.key_rotate, name="key_rotate"),
    path("settings/audit/", audit.audit_list, name="audit_list"),
    path("settings/audit/export.csv", audit.audit_export, name="audit_export"),
]
