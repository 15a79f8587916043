"""Who belongs to the organisation, and what they may do."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from accounts import access, services
from accounts.caller import Caller, caller_of
from accounts.forms import ROLE_HELP, InviteForm, RoleForm, roles_up_to, tell
from accounts.models import Invitation, Membership, Organization
from accounts.roles import Role
from mlops.core import errors


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def member_list(request: HttpRequest, org: str) -> HttpResponse:
    """GET lists; POST invites."""
    caller = caller_of(request)
    organization = access.organization(caller, org, "members.manage" if request.method == "POST" else "members.view")
    form = InviteForm(caller.roles[organization.pk], request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            invitation = services.invite(organization, caller, **form.cleaned_data)
        except (errors.Conflict, errors.Invalid) as error:
            tell(form, error)
        else:
            messages.success(request, f"An invitation is on its way to {invitation.email}.")
            return redirect("member_list", org=org)
    context = {"form": form, **_rows(organization, caller)}
    return render(request, "accounts/member_list.html", context, status=422 if form.errors else 200)


def _rows(organization: Organization, caller: Caller) -> dict[str, object]:
    mine = caller.roles[organization.pk]
    may_manage = caller.can("members.manage", organization)
    members = list(
        Membership.objects.filter(organization=organization).select_related("user").order_by("created_at", "pk")
    )
    owners = sum(member.role == Role.OWNER for member in members)
    for member in members:
        below = mine.at_least(Role(member.role))
        last_owner = member.role == Role.OWNER and owners == 1
        member.changeable = may_manage and below and not last_owner
        member.is_me = caller.user is not None and member.user_id == caller.user.pk
    invitations = Invitation.objects.filter(organization=organization, accepted_at=None, revoked_at=None)
    return {
        "organization": organization,
        "members": members,
        "roles": roles_up_to(mine),
        "role_help": [(role.label, ROLE_HELP[role]) for role in reversed(Role)],
        "may_manage": may_manage,
        "invite_hint": f"They get a mail with a link that is good for {settings.INVITATION_DAYS} days",
        "invitations": invitations.select_related("invited_by").order_by("-created_at") if may_manage else [],
    }


def _membership(request: HttpRequest, org: str, membership_id: int) -> Membership:
    rows = Membership.objects.select_related("user", "organization")
    return access.get(caller_of(request), rows, "members.manage", organization__slug=org, pk=membership_id)


@login_required
@require_POST
def member_role(request: HttpRequest, org: str, membership_id: int) -> HttpResponse:
    membership = _membership(request, org, membership_id)
    form = RoleForm(request.POST)
    if not form.is_valid():
        raise errors.Invalid("Choose one of the roles: viewer, developer, admin, owner.")
    role = Role(form.cleaned_data["role"])
    services.set_role(membership, caller_of(request), role)
    messages.success(request, f"{membership.user} is now {role.label.lower()}.")
    return redirect("member_list", org=org)


@login_required
@require_POST
def member_remove(request: HttpRequest, org: str, membership_id: int) -> HttpResponse:
    membership = _membership(request, org, membership_id)
    services.remove_member(membership, caller_of(request))
    messages.success(request, f"{membership.user} was removed; the API keys they made stopped working.")
    return redirect("member_list", org=org)
