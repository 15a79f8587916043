"""Sharing a model with another organisation, for scripts: the owner's side. The guest's side is ``serving.api.shared``."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access
from accounts.idempotency import idempotent
from mlops.core.bodies import given
from mlops.core.pagination import listed
from registry import lookup
from registry.models import Right, Share
from registry.services import sharing


class ShareSerializer(serializers.ModelSerializer):
    """``organization`` is whom it is shared with; ``version`` null means every ready version."""

    organization = serializers.CharField(source="grantee.slug")
    model = serializers.CharField(source="model.slug")
    version = serializers.IntegerField(source="version.number", allow_null=True, default=None)
    rights = serializers.ListField(child=serializers.ChoiceField(Right.choices))
    status = serializers.ChoiceField(("active", "revoked"))
    made_by = serializers.CharField(source="actor")

    class Meta:
        model = Share
        fields = (
            "id", "model", "version", "organization", "rights", "status", "made_by", "created_at", "revoked_at", "revoked_by",
        )  # fmt: skip


class ShareWrite(serializers.Serializer):
    organization = serializers.CharField(max_length=63, help_text="The other organisation's name in addresses.")
    rights = serializers.ListField(
        child=serializers.ChoiceField(Right.choices), min_length=1, help_text="read is always among them."
    )
    version = serializers.IntegerField(
        required=False, allow_null=True, default=None, min_value=1, help_text="Share this version only."
    )


class ShareList(APIView):
    @extend_schema(operation_id="shares_list", responses=ShareSerializer(many=True))
    def get(self, request: Request, org: str, model: str) -> Response:
        row = lookup.model_of(request, org, model)
        rows = Share.objects.filter(model=row).select_related("model", "version", "grantee")
        return listed(self, request, rows, ShareSerializer)

    @extend_schema(operation_id="shares_make", request=ShareWrite, responses={201: ShareSerializer})
    @idempotent
    def post(self, request: Request, org: str, model: str) -> Response:
        row = lookup.model_of(request, org, model, "model.share")
        body = given(ShareWrite, request.data)
        number = body["version"]
        share = sharing.share_model(
            row,
            request.user,
            grantee=body["organization"],
            rights=body["rights"],
            version=lookup.version_of(request, org, model, number) if number is not None else None,
        )
        return Response(ShareSerializer(share).data, status=201)


class ShareDetail(APIView):
    @extend_schema(operation_id="shares_revoke", responses={204: None})
    def delete(self, request: Request, org: str, model: str, share_id: int) -> Response:
        rows = Share.objects.select_related("model", "version", "grantee", "organization")
        found = {"organization__slug": org, "model__slug": model, "pk": share_id}
        sharing.revoke(access.get(request.user, rows, "model.share", **found), request.user)
        return Response(status=204)
