from django.urls import path

from accounts.api import audit, keys, members

urlpatterns = [
    path("keys", keys.Keys.as_view(), name="api_key_list"),
    path("keys/<int:key_id>", keys.KeyDetail.as_view(), name="api_key_detail"),
    path("keys/<int:key_id>/rotate", keys.KeyRotate.as_view(), name="api_key_rotate"),
    path("members", members.Members.as_view(), name="api_member_list"),
    path("members/<int:member_id>", members.MemberDetail.as_view(), name="api_member_detail"),
    path("invitations", members.Invitations.as_view(), name="api_invitation_list"),
    path("invitations/<int:invitation_id>", members.InvitationDetail.as_view(), name="api_invitation_detail"),
    path("invitations/<int:invitation_id>/resend", members.InvitationResend.as_view(), name="api_invitation_resend"),
    path("audit", audit.Audit.as_view(), name="api_audit_list"),
]
