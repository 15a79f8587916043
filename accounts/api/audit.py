"""The audit log for programs: newest first, with filters."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access
from accounts.models import AuditEvent
from mlops.core.bodies import given
from mlops.core.pagination import CursorPages, listed


class AuditEventSerializer(serializers.ModelSerializer):
    class Meta:
        model = AuditEvent
        fields = (
            "number",
            "at",
            "actor",
            "actor_ref",
            "action",
            "subject_type",
            "subject_id",
            "subject_label",
            "detail",
            "ip",
            "previous_hash",
            "hash",
        )
        read_only_fields = fields


class _Filter(serializers.Serializer):
    action = serializers.CharField(required=False, max_length=60)
    actor = serializers.CharField(required=False, max_length=200)
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False)


_LOOKUPS = {"action": "action", "actor": "actor__icontains", "since": "at__gte", "until": "at__lt"}


class Audit(APIView):
    pagination_class = CursorPages

    @extend_schema(
        operation_id="audit_list",
        responses=AuditEventSerializer(many=True),
        parameters=[
            OpenApiParameter("action", str, description="Exactly this action, e.g. key.created"),
            OpenApiParameter("actor", str, description="Part of the actor's name"),
            OpenApiParameter("since", str, description="From this time, ISO 8601"),
            OpenApiParameter("until", str, description="Before this time, ISO 8601"),
        ],
    )
    def get(self, request: Request, org: str) -> Response:
        organization = access.organization(request.user, org, "audit.view")
        wanted = given(_Filter, request.query_params.dict())
        rows = AuditEvent.objects.filter(organization=organization)
        rows = rows.filter(**{_LOOKUPS[name]: value for name, value in wanted.items()})
        return listed(self, request, rows, AuditEventSerializer)
