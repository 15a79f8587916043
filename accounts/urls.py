"""Pages that belong to no organisation yet, or to a person."""

from django.urls import path

from accounts.views import account, invitations, organizations

urlpatterns = [
    path("new/", organizations.organization_create, name="organization_create"),
    path("settings/", account.account_settings, name="account_settings"),
    path("invitations/<str:token>/", invitations.invitation_accept, name="invitation_accept"),
]
