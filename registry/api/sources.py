"""Connected repositories for scripts: connect, look, change, rotate the webhook's secret, deploy now, disconnect."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.urls import reverse
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access
from accounts.caller import caller_of
from accounts.idempotency import idempotent
from mlops.core.bodies import given
from mlops.core.pagination import listed
from registry.api.serializers import absolute, version_path
from registry.git import address
from registry.models import PushStatus, Source, SourcePush
from registry.services import pushes, sources

_DAY_H = 24


# -- out ----------------------------------------------------------------------------------------------------------------
class SourceSerializer(serializers.ModelSerializer):
    """A source as lists and details show it. Secrets are never among it."""

    hook_url = serializers.SerializerMethodField(help_text="Where the webhook goes.")
    enabled = serializers.SerializerMethodField()
    credential = serializers.SerializerMethodField(help_text="What opens the repository: none, token or app.")

    class Meta:
        model = Source
        fields = (
            "id", "kind", "clone_url", "branch", "folder", "model", "deployment", "previews", "enabled", "credential", "token_user",
            "app_id", "installation_id", "hook_url", "previous_until", "created_at",
        )  # fmt: skip

    def get_hook_url(self, source: Source) -> str:
        return settings.BASE_URL + reverse("source_hook", kwargs={"source_id": source.pk})

    def get_enabled(self, source: Source) -> bool:
        return source.disabled_at is None

    @extend_schema_field(serializers.ChoiceField(("none", "token", "app")))
    def get_credential(self, source: Source) -> str:
        return "app" if source.app_id else "token" if source.token_sealed else "none"


class ConnectedSerializer(SourceSerializer):
    secret = serializers.CharField(help_text="Of the webhook. Shown once.")

    class Meta(SourceSerializer.Meta):
        fields = (*SourceSerializer.Meta.fields, "secret")


class SecretSerializer(serializers.Serializer):
    secret = serializers.CharField(help_text="Shown once.")
    previous_until = serializers.DateTimeField(help_text="Until then the secret before is good, too.")


class PushErrorSerializer(serializers.Serializer):
    code = serializers.CharField()
    detail = serializers.CharField()
    hint = serializers.CharField(allow_blank=True)


class PushDifferenceSerializer(serializers.Serializer):
    level = serializers.ChoiceField(("error", "warning"), help_text="error: callers of the live version are refused.")
    text = serializers.CharField()


class PushPredictionsSerializer(serializers.Serializer):
    """Of rows that both versions answered; absolute differences of values, else of the probability that moved most."""

    source = serializers.CharField(required=False, help_text="log, or reference.")
    rows = serializers.IntegerField(required=False)
    compared = serializers.IntegerField(required=False)
    kind = serializers.ChoiceField(("labels", "numbers"), required=False)
    changed = serializers.FloatField(required=False, allow_null=True, help_text="Share of the rows.")
    mean = serializers.FloatField(required=False, allow_null=True)
    p95 = serializers.FloatField(required=False, allow_null=True)
    failed = serializers.IntegerField(required=False, help_text="Rows the new version failed on.")
    p95_ms = serializers.FloatField(required=False, allow_null=True)
    p95_ms_before = serializers.FloatField(required=False, allow_null=True)
    error = serializers.CharField(required=False, help_text="Why they could not be compared.")


class PushFactsSerializer(serializers.Serializer):
    size_bytes = serializers.IntegerField()
    p95_ms = serializers.FloatField(allow_null=True)
    environment = serializers.CharField(allow_null=True, help_text="The dependency set; null: Slipway's own libraries.")
    against = serializers.IntegerField(allow_null=True, help_text="The version in production, or there before.")
    schema = PushDifferenceSerializer(many=True)
    predictions = PushPredictionsSerializer(allow_null=True)
    sentence = serializers.CharField(allow_blank=True, help_text="The predictions in words.")


class SourcePushSerializer(serializers.ModelSerializer):
    status = serializers.ChoiceField(PushStatus.choices)
    version = serializers.IntegerField(source="version.number", default=None, allow_null=True)
    version_url = serializers.SerializerMethodField()
    predict_url = serializers.SerializerMethodField(help_text="Where it answers, while it is live.")
    error = PushErrorSerializer(allow_null=True)
    changes = PushFactsSerializer(
        source="report.facts", default=None, allow_null=True, help_text="Against production; measured once it is live."
    )

    class Meta:
        model = SourcePush
        fields = (
            "id", "sha", "branch", "pull_request", "message", "author", "production", "status", "error", "version", "version_url", "preview",
            "predict_url", "changes", "created_at", "fetched_at", "finished_at",
        )  # fmt: skip

    def get_version_url(self, push: SourcePush) -> str | None:
        return absolute("version_detail", **version_path(push.version)) if push.version else None

    def get_predict_url(self, push: SourcePush) -> str | None:
        if push.status != PushStatus.LIVE:
            return None
        path = f"{settings.BASE_URL}/api/v1/predict/{push.organization.slug}/{push.source.deployment}"
        return path if push.production else f"{path}/previews/{push.preview}"


# -- in -----------------------------------------------------------------------------------------------------------------
class _Credentials(serializers.Serializer):
    token = serializers.CharField(
        required=False, allow_blank=True, max_length=1000, help_text="May read the repository."
    )
    token_user = serializers.CharField(
        required=False,
        max_length=100,
        help_text="Name that goes with the token: x-access-token (GitHub), oauth2 (GitLab).",
    )
    app_id = serializers.CharField(required=False, allow_blank=True, max_length=40, help_text="Of a GitHub App.")
    installation_id = serializers.CharField(required=False, allow_blank=True, max_length=40)
    app_key = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=20_000,
        trim_whitespace=False,
        help_text="The App's private key (PEM).",
    )


class SourceWrite(_Credentials):
    kind = serializers.ChoiceField(Source.Kind.choices, default=Source.Kind.GITHUB)
    clone_url = serializers.CharField(max_length=300, help_text="https://github.com/owner/name")
    model = serializers.CharField(max_length=63)
    deployment = serializers.CharField(max_length=63, required=False, default="", help_text="Else as the model.")
    branch = serializers.CharField(max_length=200, default="main", help_text="Its pushes go live.")
    folder = serializers.CharField(max_length=300, required=False, allow_blank=True, default="")
    previews = serializers.BooleanField(default=True, help_text="Other branches and pull requests get a preview.")


class SourcePatch(_Credentials):
    branch = serializers.CharField(max_length=200, required=False)
    previews = serializers.BooleanField(required=False)
    enabled = serializers.BooleanField(required=False, help_text="Switched off, the webhook is answered 410.")


class RotateWrite(serializers.Serializer):
    overlap_hours = serializers.IntegerField(
        min_value=0, max_value=7 * _DAY_H, default=_DAY_H, help_text="How long the present secret stays good."
    )


class DeployWrite(serializers.Serializer):
    ref = serializers.CharField(
        max_length=250, required=False, default="", help_text="A branch; else the production branch."
    )


class QueuedSerializer(serializers.Serializer):
    status = serializers.ChoiceField(("queued", "ignored"))
    push = SourcePushSerializer(allow_null=True)
    reason = serializers.CharField(required=False, help_text="Why there is nothing to do.")


# -- doors --------------------------------------------------------------------------------------------------------------
def source_of(request: Any, org: str, source_id: Any, action: str = "source.view") -> Source:
    """The row an address names, seen through the caller."""
    rows = Source.objects.select_related("organization", "created_by")
    return access.get(caller_of(request), rows, action, organization__slug=org, pk=source_id)


def pushes_of(source: Source) -> QuerySet[SourcePush]:
    return SourcePush.objects.filter(source=source).select_related(
        "organization", "source", "version__model", "version__organization"
    )


class SourceList(APIView):
    @extend_schema(operation_id="sources_list", responses=SourceSerializer(many=True))
    def get(self, request: Request, org: str) -> Response:
        organization = access.organization(request.user, org, "source.view")
        return listed(self, request, Source.objects.filter(organization=organization), SourceSerializer)

    @extend_schema(operation_id="sources_connect", request=SourceWrite, responses={201: ConnectedSerializer})
    @idempotent
    def post(self, request: Request, org: str) -> Response:
        organization = access.organization(request.user, org, "source.manage")
        source, source.secret = sources.connect(organization, request.user, **given(SourceWrite, request.data))
        return Response(ConnectedSerializer(source).data, status=201)


class SourceDetail(APIView):
    @extend_schema(operation_id="sources_retrieve", responses=SourceSerializer)
    def get(self, request: Request, org: str, source_id: str) -> Response:
        return Response(SourceSerializer(source_of(request, org, source_id)).data)

    @extend_schema(operation_id="sources_change", request=SourcePatch, responses=SourceSerializer)
    def patch(self, request: Request, org: str, source_id: str) -> Response:
        source = source_of(request, org, source_id, "source.manage")
        return Response(SourceSerializer(sources.change(source, request.user, **given(SourcePatch, request.data))).data)

    @extend_schema(operation_id="sources_disconnect", responses={204: None})
    def delete(self, request: Request, org: str, source_id: str) -> Response:
        sources.disconnect(source_of(request, org, source_id, "source.manage"), request.user)
        return Response(status=204)


class SourceRotate(APIView):
    @extend_schema(operation_id="sources_rotate", request=RotateWrite, responses=SecretSerializer)
    def post(self, request: Request, org: str, source_id: str) -> Response:
        source = source_of(request, org, source_id, "source.manage")
        hours = given(RotateWrite, request.data)["overlap_hours"]
        secret = sources.rotate_secret(source, request.user, overlap=timedelta(hours=hours))
        return Response(SecretSerializer({"secret": secret, "previous_until": source.previous_until}).data)


class SourcePushList(APIView):
    @extend_schema(operation_id="sources_pushes", responses=SourcePushSerializer(many=True))
    def get(self, request: Request, org: str, source_id: str) -> Response:
        return listed(self, request, pushes_of(source_of(request, org, source_id)), SourcePushSerializer)


class SourceDeploy(APIView):
    @extend_schema(operation_id="sources_deploy", request=DeployWrite, responses={202: QueuedSerializer})
    def post(self, request: Request, org: str, source_id: str) -> Response:
        """Deploy now: what the branch holds on the server when the job comes to it."""
        source = source_of(request, org, source_id, "deployment.write")
        branch = address.branch(given(DeployWrite, request.data)["ref"] or source.branch)
        push, reason = pushes.receive(source, branch=branch, by=request.user.person)
        shown = SourcePushSerializer(pushes_of(source).get(pk=push.pk)).data if push is not None else None
        return Response(
            {"status": "queued", "push": shown} if push else {"status": "ignored", "push": None, "reason": reason},
            status=202,
        )
