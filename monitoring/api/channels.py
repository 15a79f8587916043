"""Channels and deliveries for scripts: make, change, test, rotate, remove; what was sent, and sending it again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access
from accounts.idempotency import idempotent
from mlops.core.bodies import given
from mlops.core.pagination import listed
from monitoring import channel_services, deliveries
from monitoring.channels import webhook
from monitoring.models import Attempt, Channel, Notification, Severity

_STATES = ("waiting", "sent", "failed")


# -- out ------------------------------------------------------------------------------------------------------------------


class ChannelSerializer(serializers.ModelSerializer):
    """A channel as lists and details show it. Its address and secret are never among it."""

    events = serializers.ListField(child=serializers.ChoiceField(Channel.Event.choices))
    deployments = serializers.SerializerMethodField(help_text="Names; null: all.")
    enabled = serializers.BooleanField()
    state = serializers.ChoiceField(("ok", "idle", "failing", "disabled"))

    class Meta:
        model = Channel
        fields = (
            "id", "kind", "name", "place", "events", "least_severity", "deployments", "enabled", "state", "disabled_at", "disabled_reason", "last_ok_at",
            "failing_since", "previous_until", "created_at",
        )  # fmt: skip
        read_only_fields = fields

    def get_deployments(self, channel: Channel) -> list[str] | None:
        return None if channel.all_deployments else sorted(each.name for each in channel.deployments.all())


class MadeChannelSerializer(ChannelSerializer):
    secret = serializers.CharField(allow_blank=True, help_text="Signs a webhook's messages. Shown once.")

    class Meta(ChannelSerializer.Meta):
        fields = (*ChannelSerializer.Meta.fields, "secret")
        read_only_fields = fields


class ChannelSecretSerializer(serializers.Serializer):
    secret = serializers.CharField(help_text="Shown once.")
    previous_until = serializers.DateTimeField(help_text="Until then messages are signed with the secret before, too.")


class AttemptSerializer(serializers.ModelSerializer):
    class Meta:
        model = Attempt
        fields = ("at", "outcome", "status", "duration_ms", "reply", "error")
        read_only_fields = fields


class DeliverySerializer(serializers.ModelSerializer):
    channel = serializers.UUIDField(source="target_id")
    message_id = serializers.SerializerMethodField(help_text="webhook-id: the same on every try.")
    state = serializers.SerializerMethodField()
    title = serializers.CharField(source="subject")
    tries = AttemptSerializer(many=True)

    class Meta:
        model = Notification
        fields = (
            "id", "channel", "message_id", "type", "severity", "title", "state", "incident", "created_at", "next_at", "sent_at", "error", "tries",
        )  # fmt: skip
        read_only_fields = fields

    def get_message_id(self, row: Notification) -> str:
        return webhook.message_id(row)

    def get_state(self, row: Notification) -> str:
        """waiting, sent or failed"""
        return "waiting" if row.waits else row.status


class DeliveryDetailSerializer(DeliverySerializer):
    body = serializers.SerializerMethodField(help_text="What is sent.")

    class Meta(DeliverySerializer.Meta):
        fields = (*DeliverySerializer.Meta.fields, "body")
        read_only_fields = fields

    def get_body(self, row: Notification) -> str:
        return deliveries.body(row)


# -- in -------------------------------------------------------------------------------------------------------------------


class _ChannelFields(serializers.Serializer):
    token = serializers.CharField(
        required=False, allow_blank=True, max_length=200, help_text="ntfy: of a topic that asks for one."
    )
    events = serializers.ListField(
        child=serializers.ChoiceField(Channel.Event.choices), required=False, allow_empty=False
    )
    least_severity = serializers.ChoiceField(Severity.choices, required=False)
    deployments = serializers.ListField(
        child=serializers.CharField(max_length=63),
        required=False,
        allow_null=True,
        max_length=500,
        help_text="Names; null: all.",
    )


class ChannelWrite(_ChannelFields):
    kind = serializers.ChoiceField(Channel.Kind.choices)
    name = serializers.CharField(max_length=80)
    address = serializers.CharField(
        max_length=2000,
        help_text="What the service gives you: its webhook's address, a topic, or PagerDuty's integration key.",
    )


class ChannelPatch(_ChannelFields):
    name = serializers.CharField(max_length=80, required=False)
    address = serializers.CharField(max_length=2000, required=False)
    enabled = serializers.BooleanField(required=False)


class OverlapWrite(serializers.Serializer):
    overlap_hours = serializers.IntegerField(
        min_value=0,
        max_value=channel_services.MOST_OVERLAP_HOURS,
        default=24,
        help_text="How long the present secret signs, too.",
    )


# -- doors ----------------------------------------------------------------------------------------------------------------


def _channel(request: Request, org: str, channel_id: Any, action: str = "channel.view") -> Channel:
    rows = Channel.objects.select_related("organization").prefetch_related("deployments")
    return access.get(request.user, rows, action, organization__slug=org, pk=channel_id)


def _again(channel: Channel) -> dict[str, Any]:
    return ChannelSerializer(Channel.objects.prefetch_related("deployments").get(pk=channel.pk)).data


class ChannelList(APIView):
    @extend_schema(operation_id="channels_list", responses=ChannelSerializer(many=True), tags=["monitoring"])
    def get(self, request: Request, org: str) -> Response:
        organization = access.organization(request.user, org, "channel.view")
        rows = Channel.objects.filter(organization=organization).prefetch_related("deployments")
        return listed(self, request, rows, ChannelSerializer)

    @extend_schema(
        operation_id="channels_create",
        request=ChannelWrite,
        responses={201: MadeChannelSerializer},
        tags=["monitoring"],
    )
    @idempotent
    def post(self, request: Request, org: str) -> Response:
        organization = access.organization(request.user, org, "channel.manage")
        channel, channel.secret = channel_services.create(
            organization, request.user, **given(ChannelWrite, request.data)
        )
        return Response(MadeChannelSerializer(channel).data, status=201)


class ChannelDetail(APIView):
    @extend_schema(operation_id="channels_retrieve", responses=ChannelSerializer, tags=["monitoring"])
    def get(self, request: Request, org: str, channel_id: str) -> Response:
        return Response(ChannelSerializer(_channel(request, org, channel_id)).data)

    @extend_schema(
        operation_id="channels_change", request=ChannelPatch, responses=ChannelSerializer, tags=["monitoring"]
    )
    def patch(self, request: Request, org: str, channel_id: str) -> Response:
        channel = _channel(request, org, channel_id, "channel.manage")
        return Response(_again(channel_services.change(channel, request.user, **given(ChannelPatch, request.data))))

    @extend_schema(operation_id="channels_remove", responses={204: None}, tags=["monitoring"])
    def delete(self, request: Request, org: str, channel_id: str) -> Response:
        channel_services.remove(_channel(request, org, channel_id, "channel.manage"), request.user)
        return Response(status=204)


class ChannelRotate(APIView):
    @extend_schema(
        operation_id="channels_rotate", request=OverlapWrite, responses=ChannelSecretSerializer, tags=["monitoring"]
    )
    def post(self, request: Request, org: str, channel_id: str) -> Response:
        channel = _channel(request, org, channel_id, "channel.manage")
        hours = given(OverlapWrite, request.data or {})["overlap_hours"]
        secret = channel_services.rotate(channel, request.user, overlap=timedelta(hours=hours))
        return Response(ChannelSecretSerializer({"secret": secret, "previous_until": channel.previous_until}).data)


class ChannelTest(APIView):
    @extend_schema(operation_id="channels_test", request=None, responses={202: DeliverySerializer}, tags=["monitoring"])
    def post(self, request: Request, org: str, channel_id: str) -> Response:
        """Sent as soon as a worker is free, and tried once: ask for the delivery to see what came of it."""
        channel = _channel(request, org, channel_id, "channel.manage")
        return Response(DeliverySerializer(channel_services.send_test(channel, request.user)).data, status=202)


class DeliveryList(APIView):
    @extend_schema(
        operation_id="deliveries_list",
        parameters=[
            OpenApiParameter("channel", str, description="The id of a channel."),
            OpenApiParameter("state", str, enum=_STATES),
            OpenApiParameter("type", str, enum=deliveries.types()),
            OpenApiParameter("range", str, enum=tuple(deliveries.SPANS), description="The last day, 7 days, 30 days."),
        ],
        responses=DeliverySerializer(many=True),
        tags=["monitoring"],
    )
    def get(self, request: Request, org: str) -> Response:
        organization = access.organization(request.user, org, "channel.view")
        rows = deliveries.messages(organization, request.query_params).prefetch_related("tries")
        return listed(self, request, rows, DeliverySerializer)


def _delivery(request: Request, org: str, delivery_id: int, action: str) -> Notification:
    rows = (
        Notification.objects.filter(target__isnull=False)
        .select_related("organization", "target")
        .prefetch_related("tries")
    )
    return access.get(request.user, rows, action, organization__slug=org, pk=delivery_id)


class DeliveryDetail(APIView):
    @extend_schema(operation_id="deliveries_retrieve", responses=DeliveryDetailSerializer, tags=["monitoring"])
    def get(self, request: Request, org: str, delivery_id: int) -> Response:
        return Response(DeliveryDetailSerializer(_delivery(request, org, delivery_id, "channel.view")).data)


class DeliveryRedeliver(APIView):
    @extend_schema(
        operation_id="deliveries_redeliver", request=None, responses={202: DeliverySerializer}, tags=["monitoring"]
    )
    def post(self, request: Request, org: str, delivery_id: int) -> Response:
        """Once more, with the same id."""
        row = _delivery(request, org, delivery_id, "channel.manage")
        return Response(DeliverySerializer(channel_services.redeliver(row, request.user)).data, status=202)
