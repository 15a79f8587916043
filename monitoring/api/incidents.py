"""Incidents for scripts: what, since when, likely why, what to do; and acknowledge, snooze, resolve."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.views import APIView

from accounts import access
from mlops.core import errors
from mlops.core.bodies import given
from mlops.core.pagination import listed
from monitoring import incidents, notices
from monitoring.models import Incident, IncidentStatus


class SignalSerializer(serializers.Serializer):
    """One rule's side of the story."""

    kind = serializers.CharField()
    state = serializers.ChoiceField(choices=["firing", "calm"])
    what = serializers.CharField()
    since = serializers.DateTimeField()
    why = serializers.CharField()
    effect = serializers.CharField()
    todo = serializers.ListField(child=serializers.CharField())
    value = serializers.FloatField(allow_null=True)
    limit = serializers.FloatField(allow_null=True)


class IncidentSerializer(serializers.ModelSerializer):
    state = serializers.ChoiceField(source="status", choices=IncidentStatus.choices)
    deployment = serializers.CharField(source="deployment.name")
    version = serializers.IntegerField(source="version.number", allow_null=True, default=None)
    what = serializers.CharField(source="title")
    why = serializers.SerializerMethodField()
    signals = serializers.SerializerMethodField()
    actions = serializers.SerializerMethodField()

    class Meta:
        model = Incident
        fields = (
            "id",
            "deployment",
            "version",
            "state",
            "what",
            "why",
            "since",
            "opened_at",
            "last_seen_at",
            "snoozed_until",
            "resolved_at",
            "signals",
            "actions",
        )
        read_only_fields = fields

    def get_why(self, incident: Incident) -> str:
        return " ".join(signal["why"] for signal in notices.signals_of(incident))

    @extend_schema_field(SignalSerializer(many=True))
    def get_signals(self, incident: Incident) -> list[dict[str, Any]]:
        return [{name: signal[name] for name in SignalSerializer().fields} for signal in notices.signals_of(incident)]

    def get_actions(self, incident: Incident) -> dict[str, str]:
        """What may be done now: verb -> address to POST to."""
        if incident.status == IncidentStatus.RESOLVED:
            return {}
        verbs = ["snooze", "resolve"] + (["acknowledge"] if incident.status != IncidentStatus.ACKNOWLEDGED else [])
        where = {"org": incident.organization.slug, "incident_id": incident.pk}
        return {
            verb: reverse(f"api_incident_{verb}", kwargs=where, request=self.context.get("request")) for verb in verbs
        }


class SnoozeSerializer(serializers.Serializer):
    hours = serializers.FloatField(default=24, help_text="1 to 168")


def _rows() -> Any:
    return Incident.objects.select_related("deployment", "version", "organization")


def _answer(incident: Incident, request: Request) -> Response:
    return Response(IncidentSerializer(incident, context={"request": request}).data)


class IncidentList(APIView):
    @extend_schema(
        operation_id="incidents_list",
        parameters=[
            OpenApiParameter(
                "state", str, description="open, acknowledged, snoozed, resolved", enum=IncidentStatus.values
            )
        ],
        responses=IncidentSerializer(many=True),
        tags=["monitoring"],
    )
    def get(self, request: Request, org: str) -> Response:
        organization = access.organization(request.user, org, "incident.view")
        rows = _rows().filter(organization=organization)
        if state := request.query_params.get("state"):
            if state not in IncidentStatus.values:
                raise errors.Invalid(
                    f"state is one of {', '.join(IncidentStatus.values)}.",
                    fields={"state": [f"{state!r} is none of them"]},
                )
            rows = rows.filter(status=state)
        return listed(self, request, rows, IncidentSerializer)


class IncidentDetail(APIView):
    @extend_schema(operation_id="incidents_retrieve", responses=IncidentSerializer, tags=["monitoring"])
    def get(self, request: Request, org: str, incident_id: int) -> Response:
        return _answer(
            access.get(request.user, _rows(), "incident.view", organization__slug=org, pk=incident_id), request
        )


class IncidentAcknowledge(APIView):
    @extend_schema(
        operation_id="incidents_acknowledge", request=None, responses=IncidentSerializer, tags=["monitoring"]
    )
    def post(self, request: Request, org: str, incident_id: int) -> Response:
        incident = access.get(request.user, _rows(), "incident.act", organization__slug=org, pk=incident_id)
        return _answer(incidents.acknowledge(incident, request.user), request)


class IncidentSnooze(APIView):
    @extend_schema(
        operation_id="incidents_snooze", request=SnoozeSerializer, responses=IncidentSerializer, tags=["monitoring"]
    )
    def post(self, request: Request, org: str, incident_id: int) -> Response:
        incident = access.get(request.user, _rows(), "incident.act", organization__slug=org, pk=incident_id)
        hours = given(SnoozeSerializer, request.data or {})["hours"]
        return _answer(incidents.snooze(incident, request.user, hours), request)


class IncidentResolve(APIView):
    @extend_schema(operation_id="incidents_resolve", request=None, responses=IncidentSerializer, tags=["monitoring"])
    def post(self, request: Request, org: str, incident_id: int) -> Response:
        incident = access.get(request.user, _rows(), "incident.act", organization__slug=org, pk=incident_id)
        return _answer(incidents.resolve(incident, request.user), request)
