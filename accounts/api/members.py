"""Members and invitations of an organisation."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access, services
from accounts.api.keys import IDEMPOTENCY_KEY
from accounts.caller import Caller
from accounts.idempotency import idempotent
from accounts.models import Invitation, Membership
from accounts.roles import Role
from mlops.core.bodies import given
from mlops.core.pagination import CursorPages, listed


class MemberSerializer(serializers.ModelSerializer):
    email = serializers.EmailField(source="user.email")
    name = serializers.CharField(source="user.name")

    class Meta:
        model = Membership
        fields = ("id", "email", "name", "role", "created_at")
        read_only_fields = fields


class InvitationSerializer(serializers.ModelSerializer):
    invited_by = serializers.EmailField(source="invited_by.email", default=None)
    expired = serializers.BooleanField()

    class Meta:
        model = Invitation
        fields = ("id", "email", "role", "invited_by", "created_at", "sent_at", "expires_at", "expired")
        read_only_fields = fields


class RoleSerializer(serializers.Serializer):
    role = serializers.ChoiceField(Role.choices)


class InviteSerializer(RoleSerializer):
    email = serializers.EmailField()


def _invite(request: Request, org: str) -> Response:
    organization = access.organization(request.user, org, "members.manage")
    wish = given(InviteSerializer, request.data)
    invitation = services.invite(organization, request.user, email=wish["email"], role=Role(wish["role"]))
    return Response(InvitationSerializer(invitation).data, status=201)


class Members(APIView):
    pagination_class = CursorPages

    @extend_schema(operation_id="members_list", responses=MemberSerializer(many=True))
    def get(self, request: Request, org: str) -> Response:
        organization = access.organization(request.user, org, "members.view")
        rows = Membership.objects.filter(organization=organization).select_related("user")
        return listed(self, request, rows, MemberSerializer)

    @extend_schema(
        operation_id="members_invite",
        request=InviteSerializer,
        responses={201: InvitationSerializer},
        parameters=[IDEMPOTENCY_KEY],
    )
    @idempotent
    def post(self, request: Request, org: str) -> Response:
        """Nobody is made a member unasked: this sends an invitation, like POST invitations."""
        return _invite(request, org)


class MemberDetail(APIView):
    @extend_schema(operation_id="members_set_role", request=RoleSerializer, responses=MemberSerializer)
    def patch(self, request: Request, org: str, member_id: int) -> Response:
        member = _member(request.user, "members.manage", org, member_id)
        role = Role(given(RoleSerializer, request.data)["role"])
        return Response(MemberSerializer(services.set_role(member, request.user, role)).data)

    @extend_schema(operation_id="members_remove", responses={204: None})
    def delete(self, request: Request, org: str, member_id: int) -> Response:
        """Also the way to leave: everybody may remove themselves, except the last owner."""
        member = _member(request.user, "members.view", org, member_id)
        if member.user_id != getattr(request.user.user, "pk", None):
            member = _member(request.user, "members.manage", org, member_id)
        services.remove_member(member, request.user)
        return Response(status=204)


def _member(caller: Caller, action: str, org: str, member_id: int) -> Membership:
    rows = Membership.objects.select_related("organization", "user")
    return access.get(caller, rows, action, pk=member_id, organization__slug=org)


class Invitations(APIView):
    pagination_class = CursorPages

    @extend_schema(operation_id="invitations_list", responses=InvitationSerializer(many=True))
    def get(self, request: Request, org: str) -> Response:
        """The open ones."""
        organization = access.organization(request.user, org, "members.manage")
        rows = Invitation.objects.filter(organization=organization, accepted_at=None, revoked_at=None).select_related(
            "invited_by"
        )
        return listed(self, request, rows, InvitationSerializer)

    @extend_schema(
        operation_id="invitations_create",
        request=InviteSerializer,
        responses={201: InvitationSerializer},
        parameters=[IDEMPOTENCY_KEY],
    )
    @idempotent
    def post(self, request: Request, org: str) -> Response:
        return _invite(request, org)


class InvitationDetail(APIView):
    @extend_schema(operation_id="invitations_revoke", responses={204: None})
    def delete(self, request: Request, org: str, invitation_id: int) -> Response:
        services.revoke_invitation(_invitation(request, org, invitation_id), request.user)
        return Response(status=204)


class InvitationResend(APIView):
    @extend_schema(operation_id="invitations_resend", request=None, responses=InvitationSerializer)
    def post(self, request: Request, org: str, invitation_id: int) -> Response:
        """A fresh link by mail; the earlier one stops working."""
        invitation = services.resend_invitation(_invitation(request, org, invitation_id), request.user)
        return Response(InvitationSerializer(invitation).data)


def _invitation(request: Request, org: str, invitation_id: int) -> Invitation:
    rows = Invitation.objects.select_related("organization", "invited_by")
    return access.get(request.user, rows, "members.manage", pk=invitation_id, organization__slug=org)
