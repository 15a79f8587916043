"""What other organisations share with this one, for scripts: look, where to predict, copy."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access
from accounts.idempotency import idempotent
from mlops.core.bodies import given
from mlops.core.pagination import listed
from registry.api import serializers as shapes
from registry.models import ModelVersion, Right, Share
from registry.services import sharing
from serving import guests


class SharedSerializer(serializers.ModelSerializer):
    """A model of ``owner``; ``version`` null means every ready version."""

    owner = serializers.CharField(source="organization.slug")
    model = serializers.CharField(source="model.slug")
    name = serializers.CharField(source="model.name")
    description = serializers.CharField(source="model.description")
    version = serializers.IntegerField(source="version.number", allow_null=True, default=None)
    rights = serializers.ListField(child=serializers.ChoiceField(Right.choices))

    class Meta:
        model = Share
        fields = ("id", "owner", "model", "name", "description", "version", "rights", "created_at")


class SharedVersion(serializers.ModelSerializer):
    version = serializers.IntegerField(source="number")

    class Meta:
        model = ModelVersion
        fields = (
            "version", "framework", "format", "description", "metrics", "tags", "schema", "sha256", "size_bytes", "signature", "ready_at",
        )  # fmt: skip


class EndpointSerializer(serializers.Serializer):
    deployment = serializers.CharField()
    url = serializers.URLField(help_text='POST {"inputs": [...]} with your own key that has the scope predict.')
    version = serializers.IntegerField(allow_null=True, help_text="The version that answers now.")


class SharedDetailSerializer(SharedSerializer):
    versions = serializers.SerializerMethodField()
    endpoints = serializers.SerializerMethodField()

    class Meta(SharedSerializer.Meta):
        fields = (*SharedSerializer.Meta.fields, "versions", "endpoints")

    @extend_schema_field(SharedVersion(many=True))
    def get_versions(self, share: Share) -> Any:
        return SharedVersion(sharing.versions_of(share), many=True).data

    @extend_schema_field(EndpointSerializer(many=True))
    def get_endpoints(self, share: Share) -> list[dict[str, Any]]:
        return [
            {
                "deployment": found.deployment.name,
                "url": f"{settings.BASE_URL}{found.path}",
                "version": found.version.number if found.version else None,
            }
            for found in guests.endpoints([share]).get(share.pk, [])
        ]


class CopyWrite(serializers.Serializer):
    version = serializers.IntegerField(min_value=1)
    model = serializers.CharField(max_length=63, required=False, help_text="Its name here; empty: the same as there.")


class SharedList(APIView):
    @extend_schema(operation_id="shared_list", responses=SharedSerializer(many=True))
    def get(self, request: Request, org: str) -> Response:
        organization = access.organization(request.user, org, "model.view")
        rows = Share.objects.received_by(request.user).filter(grantee=organization)
        return listed(self, request, rows.select_related("model", "version", "organization"), SharedSerializer)


class SharedDetail(APIView):
    @extend_schema(operation_id="shared_retrieve", responses=SharedDetailSerializer)
    def get(self, request: Request, org: str, share_id: int) -> Response:
        organization = access.organization(request.user, org, "model.view")
        return Response(SharedDetailSerializer(sharing.received(request.user, organization, share_id)).data)


class SharedCopy(APIView):
    @extend_schema(operation_id="shared_copy", request=CopyWrite, responses={202: shapes.PushedSerializer})
    @idempotent
    def post(self, request: Request, org: str, share_id: int) -> Response:
        organization = access.organization(request.user, org, "model.write")
        share = sharing.received(request.user, organization, share_id, Right.COPY)
        body = given(CopyWrite, request.data)
        version, job = sharing.copy_version(
            share, request.user, organization, number=body["version"], model=body.get("model") or share.model.slug
        )
        return Response(shapes.pushed(version, job), status=202)
