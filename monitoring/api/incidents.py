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
from mlops.core.bodies import given
from mlops.core.pagination import listed
from monitoring import incident_lists, incidents, notices, rules
from monitoring.models import Incident, IncidentEvent, IncidentStatus


class SignalSerializer(serializers.Serializer):
    """One rule's side of the story."""

    kind = serializers.CharField()
    key = serializers.SerializerMethodField(help_text="Which rule: a default's kind, or rule-<number>.")
    state = serializers.ChoiceField(choices=["firing", "calm"])
    what = serializers.CharField()
    since = serializers.DateTimeField()
    why = serializers.CharField()
    effect = serializers.CharField()
    todo = serializers.ListField(child=serializers.CharField())
    value = serializers.FloatField(allow_null=True)
    limit = serializers.FloatField(allow_null=True)
    unit = serializers.CharField(default="")
    flapping = serializers.BooleanField(default=False)

    def get_key(self, signal: dict[str, Any]) -> str:
        return signal.get("key") or str(signal["kind"])


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
            "acknowledged_by",
            "snoozed_until",
            "resolved_at",
            "signals",
            "actions",
        )
        read_only_fields = fields

    def get_why(self, incident: Incident) -> str:
        return " ".join(signal["why"] for signal in notices.signals_of(incident))

    @extend_schema_field(SignalSerializer(many=True))
    def get_signals(self, incident: Incident) -> Any:
        return SignalSerializer(notices.signals_of(incident), many=True).data

    def get_actions(self, incident: Incident) -> dict[str, str]:
        """What may be done now: verb -> address to POST to."""
        if incident.status == IncidentStatus.RESOLVED:
            return {}
        verbs = ["snooze", "mute", "resolve"] + (
            ["acknowledge"] if incident.status != IncidentStatus.ACKNOWLEDGED else []
        )
        where = {"org": incident.organization.slug, "incident_id": incident.pk}
        return {
            verb: reverse(f"api_incident_{verb}", kwargs=where, request=self.context.get("request")) for verb in verbs
        }


class SnoozeSerializer(serializers.Serializer):
    hours = serializers.FloatField(default=24, help_text="1 to 168")


class MuteSerializer(serializers.Serializer):
    factor = serializers.FloatField(
        default=rules.WORSE_FACTOR, help_text="How many times as bad it must become; 1.1 to 100."
    )


class CommentSerializer(serializers.Serializer):
    text = serializers.CharField(max_length=incidents.COMMENT_LENGTH)


class EventSerializer(serializers.ModelSerializer):
    """One line of an incident's timeline. ``actor`` is empty for what rules did."""

    class Meta:
        model = IncidentEvent
        fields = ("id", "at", "kind", "actor", "text")
        read_only_fields = fields


def _rows() -> Any:
    return Incident.objects.select_related("deployment", "version", "organization")


def _answer(incident: Incident, request: Request) -> Response:
    return Response(IncidentSerializer(incident, context={"request": request}).data)


class IncidentList(APIView):
    @extend_schema(
        operation_id="incidents_list",
        parameters=[
            OpenApiParameter("state", str, enum=[*IncidentStatus.values, "unresolved"]),
            OpenApiParameter("deployment", str, description="Name of a deployment"),
            OpenApiParameter(
                "range", str, enum=list(incident_lists.RANGES), description="Opened in the last 24h, 7d, ..."
            ),
        ],
        responses=IncidentSerializer(many=True),
        tags=["monitoring"],
    )
    def get(self, request: Request, org: str) -> Response:
        organization = access.organization(request.user, org, "incident.view")
        return listed(self, request, incident_lists.chosen(organization, request.query_params), IncidentSerializer)


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


class IncidentMute(APIView):
    """Quiet until it is worse, or something new begins."""

    @extend_schema(
        operation_id="incidents_mute", request=MuteSerializer, responses=IncidentSerializer, tags=["monitoring"]
    )
    def post(self, request: Request, org: str, incident_id: int) -> Response:
        incident = access.get(request.user, _rows(), "incident.act", organization__slug=org, pk=incident_id)
        factor = given(MuteSerializer, request.data or {})["factor"]
        return _answer(incidents.mute(incident, request.user, factor), request)


class IncidentEvents(APIView):
    @extend_schema(operation_id="incidents_events", responses=EventSerializer(many=True), tags=["monitoring"])
    def get(self, request: Request, org: str, incident_id: int) -> Response:
        incident = access.get(request.user, _rows(), "incident.view", organization__slug=org, pk=incident_id)
        return listed(self, request, IncidentEvent.objects.filter(incident=incident), EventSerializer)


class IncidentComment(APIView):
    @extend_schema(
        operation_id="incidents_comment",
        request=CommentSerializer,
        responses={201: EventSerializer},
        tags=["monitoring"],
    )
    def post(self, request: Request, org: str, incident_id: int) -> Response:
        incident = access.get(request.user, _rows(), "incident.act", organization__slug=org, pk=incident_id)
        event = incidents.comment(incident, request.user, given(CommentSerializer, request.data)["text"])
        return Response(EventSerializer(event).data, status=201)
