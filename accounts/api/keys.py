"""API keys of an organisation. The key itself is in the answer that makes it, and nowhere else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access, services
from accounts.idempotency import idempotent
from accounts.models import ApiKey
from accounts.roles import Role, Scope
from mlops.core.bodies import given
from mlops.core.pagination import CursorPages, listed

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key", str, "header", description="Send the same one again to get the same answer again."
)


class KeySerializer(serializers.ModelSerializer):
    status = serializers.CharField(help_text="active, expiring, expired or revoked")
    created_by = serializers.EmailField(source="created_by.email", default=None)

    class Meta:
        model = ApiKey
        fields = (
            "id",
            "name",
            "prefix",
            "scopes",
            "role",
            "deployment",
            "calls_per_minute",
            "status",
            "created_by",
            "created_at",
            "expires_at",
            "revoked_at",
            "last_used_at",
        )
        read_only_fields = fields


class MadeKeySerializer(KeySerializer):
    key = serializers.CharField(help_text="Shown this once.")

    class Meta(KeySerializer.Meta):
        fields = (*KeySerializer.Meta.fields, "key")


class NewKeySerializer(serializers.Serializer):
    name = serializers.CharField(max_length=120)
    scopes = serializers.ListField(child=serializers.ChoiceField(Scope.choices), allow_empty=False, max_length=8)
    role = serializers.ChoiceField(Role.choices, required=False, help_text="At most your own, which is the default.")
    expires_at = serializers.DateTimeField(required=False, allow_null=True)
    deployment = serializers.SlugField(
        max_length=63, required=False, help_text="Only this deployment may be called; needs scopes [predict]."
    )
    calls_per_minute = serializers.IntegerField(
        min_value=1,
        required=False,
        allow_null=True,
        help_text="Predictions a minute with this key, up to the organisation's limit; null: the server's default.",
    )


class ChangeKeySerializer(serializers.Serializer):
    calls_per_minute = serializers.IntegerField(
        min_value=1,
        allow_null=True,
        help_text="Predictions a minute with this key, up to the organisation's limit; null: the server's default.",
    )


class RotateSerializer(serializers.Serializer):
    overlap_hours = serializers.FloatField(
        default=services.OVERLAP.total_seconds() / 3600,
        min_value=0,
        max_value=720,
        help_text="How long the old key goes on working.",
    )


def _made(row: ApiKey, plain: str) -> dict[str, Any]:
    return {**KeySerializer(row).data, "key": plain}


def _key(request: Request, org: str, key_id: int) -> ApiKey:
    rows = ApiKey.objects.select_related("organization", "created_by")
    return access.get(request.user, rows, "keys.manage", pk=key_id, organization__slug=org)


class Keys(APIView):
    pagination_class = CursorPages

    @extend_schema(operation_id="keys_list", responses=KeySerializer(many=True))
    def get(self, request: Request, org: str) -> Response:
        organization = access.organization(request.user, org, "keys.view")
        rows = ApiKey.objects.filter(organization=organization).select_related("created_by")
        return listed(self, request, rows, KeySerializer)

    @extend_schema(
        operation_id="keys_create",
        request=NewKeySerializer,
        responses={201: MadeKeySerializer},
        parameters=[IDEMPOTENCY_KEY],
    )
    @idempotent
    def post(self, request: Request, org: str) -> Response:
        organization = access.organization(request.user, org, "keys.manage")
        wish = given(NewKeySerializer, request.data)
        if "role" in wish:
            wish["role"] = Role(wish["role"])
        return Response(_made(*services.create_key(organization, request.user, **wish)), status=201)


class KeyDetail(APIView):
    @extend_schema(operation_id="keys_update", request=ChangeKeySerializer, responses=KeySerializer)
    def patch(self, request: Request, org: str, key_id: int) -> Response:
        """Change the key's limit: it holds everywhere within 5 seconds."""
        row = _key(request, org, key_id)
        body = given(ChangeKeySerializer, request.data)
        return Response(KeySerializer(services.limit_key(row, request.user, **body)).data)

    @extend_schema(operation_id="keys_revoke", responses={204: None})
    def delete(self, request: Request, org: str, key_id: int) -> Response:
        """Refused everywhere within 5 seconds."""
        services.revoke_key(_key(request, org, key_id), request.user)
        return Response(status=204)


class KeyRotate(APIView):
    @extend_schema(
        operation_id="keys_rotate",
        request=RotateSerializer,
        responses={201: MadeKeySerializer},
        parameters=[IDEMPOTENCY_KEY],
    )
    @idempotent
    def post(self, request: Request, org: str, key_id: int) -> Response:
        """A successor with the same rights; the old key goes on for the overlap (24 hours)."""
        row = _key(request, org, key_id)
        overlap = timedelta(hours=given(RotateSerializer, request.data)["overlap_hours"])
        return Response(_made(*services.rotate_key(row, request.user, overlap=overlap)), status=201)
