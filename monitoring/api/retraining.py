"""Retraining for scripts: the policy, its runs, and the two doors that open with a run's own tokens: its data, and its candidate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.http import StreamingHttpResponse
from django.urls import reverse
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication
from rest_framework.parsers import JSONParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access, audit
from accounts.authentication import presented_token
from accounts.caller import Caller
from accounts.idempotency import idempotent
from mlops.core import errors
from mlops.core.bodies import given
from mlops.core.pagination import listed
from monitoring.models import Incident, Retraining, RetrainingPolicy
from monitoring.retraining import bundles, calling, incoming, policies, releasing, rows, runs, triggers
from serving.api.deployments import get_deployment
from serving.models import Deployment

_POLICY_FIELDS = (*policies.FIELDS, "bundle_name", "bundle_sha256", "paused_at", "paused_reason", "next_at", "note")


class RetrainingPolicySerializer(serializers.ModelSerializer):
    incident_kinds = serializers.ListField(child=serializers.CharField(max_length=20), required=False)

    class Meta:
        model = RetrainingPolicy
        fields = _POLICY_FIELDS
        read_only_fields = ("bundle_name", "bundle_sha256", "paused_at", "paused_reason", "next_at", "note")
        extra_kwargs = {name: {"required": False} for name in policies.FIELDS}


class RetrainingSecretSerializer(serializers.Serializer):
    secret = serializers.CharField(help_text="whsec_..., shown this once.")


class BundleSerializer(serializers.Serializer):
    bundle = serializers.FileField(help_text="train.py, or a zip or tar with it at the top.")


class RetrainingWishSerializer(serializers.Serializer):
    reason = serializers.CharField(max_length=300, required=False, allow_blank=True, default="")
    incident = serializers.IntegerField(required=False, help_text="The incident it answers.")


class RetrainingStepSerializer(serializers.Serializer):
    state = serializers.CharField()
    at = serializers.DateTimeField()
    text = serializers.CharField()


class RetrainingSerializer(serializers.ModelSerializer):
    deployment = serializers.CharField(source="deployment.name")
    way = serializers.CharField(source="terms.way")
    champion = serializers.IntegerField(source="champion.number")
    candidate = serializers.IntegerField(source="candidate.number", allow_null=True, default=None)
    incident = serializers.IntegerField(source="incident_id", allow_null=True)
    steps = RetrainingStepSerializer(many=True)
    figures = serializers.JSONField(help_text="reference, recent, replay, and the checks of the policy's rule.")
    url = serializers.SerializerMethodField()

    class Meta:
        model = Retraining
        fields = (
            "id", "deployment", "state", "trigger", "way", "reason", "incident", "champion", "candidate", "metrics", "figures", "steps",
            "ended_because", "error", "created_at", "moved_at", "due_at", "ended_at", "actor", "url",
        )  # fmt: skip

    def get_url(self, run: Retraining) -> str:
        return reverse("api_retraining_detail", kwargs={"org": run.organization.slug, "retraining_id": run.pk})


class RejectSerializer(serializers.Serializer):
    reason = serializers.CharField(max_length=300, required=False, allow_blank=True, default="")


class CandidateSerializer(serializers.Serializer):
    """A model file, or the files of a folder; like any push."""

    file = serializers.FileField(required=False)
    files = serializers.ListField(child=serializers.FileField(), required=False)
    sample = serializers.FileField(required=False)
    reference = serializers.FileField(required=False)
    metadata = serializers.CharField(required=False, help_text="JSON, as of any push.")


class CandidatePushedSerializer(serializers.Serializer):
    retraining = serializers.IntegerField()
    model = serializers.CharField()
    version = serializers.IntegerField()
    status = serializers.CharField()
    sha256 = serializers.CharField()


def _training(request: Request, org: str, name: str) -> Deployment:
    """To say who trains, or with what: he is handed the rows of the log, so a key that may not read them may not say it."""
    deployment = get_deployment(request, org, name, "deployment.write")
    return get_deployment(request, org, deployment.name, "logs.view")


def _run(request: Request, org: str, retraining_id: int, action: str) -> Retraining:
    return access.get(request.user, _rows(), action, organization__slug=org, pk=retraining_id)


def _rows() -> Any:
    return Retraining.objects.select_related(
        "organization", "deployment__organization", "deployment__model", "champion__model", "candidate__model", "incident", "rollout",
        "promotion", "created_by",
    )  # fmt: skip


# -- the policy -----------------------------------------------------------------------------------------------------


class RetrainingPolicyView(APIView):
    @extend_schema(operation_id="retraining_policy_get", responses=RetrainingPolicySerializer, tags=["monitoring"])
    def get(self, request: Request, org: str, name: str) -> Response:
        deployment = get_deployment(request, org, name, "logs.view")
        return Response(RetrainingPolicySerializer(policies.of(deployment)).data)

    @extend_schema(
        operation_id="retraining_policy_change",
        request=RetrainingPolicySerializer,
        responses=RetrainingPolicySerializer,
        tags=["monitoring"],
    )
    def patch(self, request: Request, org: str, name: str) -> Response:
        deployment = _training(request, org, name)
        changes = dict(given(RetrainingPolicySerializer, request.data).items())
        if not changes:
            raise errors.Invalid("Nothing to change.", hint=f"Send some of {', '.join(policies.FIELDS)}.")
        return Response(RetrainingPolicySerializer(policies.change(deployment, request.user, **changes)).data)


class RetrainingSecret(APIView):
    @extend_schema(
        operation_id="retraining_secret", request=None, responses={201: RetrainingSecretSerializer}, tags=["monitoring"]
    )
    def post(self, request: Request, org: str, name: str) -> Response:
        deployment = get_deployment(request, org, name, "deployment.write")
        _, plain = policies.new_secret(deployment, request.user)
        return Response({"secret": plain}, status=201)


class RetrainingBundle(APIView):
    parser_classes = (MultiPartParser, JSONParser)

    @extend_schema(
        operation_id="retraining_bundle",
        request={"multipart/form-data": BundleSerializer},
        responses={201: RetrainingPolicySerializer},
        tags=["monitoring"],
    )
    def post(self, request: Request, org: str, name: str) -> Response:
        deployment = _training(request, org, name)
        policy = bundles.received(deployment, request.user, request._request)
        return Response(RetrainingPolicySerializer(policy).data, status=201)


class RetrainingResume(APIView):
    @extend_schema(
        operation_id="retraining_resume", request=None, responses=RetrainingPolicySerializer, tags=["monitoring"]
    )
    def post(self, request: Request, org: str, name: str) -> Response:
        deployment = get_deployment(request, org, name, "deployment.write")
        return Response(RetrainingPolicySerializer(policies.resume(deployment, request.user)).data)


# -- runs -----------------------------------------------------------------------------------------------------------


class RetrainingList(APIView):
    @extend_schema(operation_id="retrainings_list", responses=RetrainingSerializer(many=True), tags=["monitoring"])
    def get(self, request: Request, org: str, name: str) -> Response:
        deployment = get_deployment(request, org, name, "deployment.view")
        return listed(self, request, _rows().filter(deployment=deployment), RetrainingSerializer)

    @extend_schema(
        operation_id="retrainings_begin",
        request=RetrainingWishSerializer,
        responses={201: RetrainingSerializer},
        tags=["monitoring"],
    )
    @idempotent
    def post(self, request: Request, org: str, name: str) -> Response:
        deployment = get_deployment(request, org, name, "deployment.write")
        wish = given(RetrainingWishSerializer, request.data)
        incident = None
        if "incident" in wish:
            incident = access.get(
                request.user, Incident.objects.filter(deployment=deployment), "incident.view", pk=wish["incident"]
            )
        run = triggers.begin_by_hand(deployment, request.user, wish["reason"], incident)
        return Response(RetrainingSerializer(run).data, status=201)


class RetrainingDetail(APIView):
    @extend_schema(operation_id="retrainings_retrieve", responses=RetrainingSerializer, tags=["monitoring"])
    def get(self, request: Request, org: str, retraining_id: int) -> Response:
        return Response(RetrainingSerializer(_run(request, org, retraining_id, "deployment.view")).data)


class RetrainingPromote(APIView):
    @extend_schema(
        operation_id="retrainings_promote", request=None, responses=RetrainingSerializer, tags=["monitoring"]
    )
    def post(self, request: Request, org: str, retraining_id: int) -> Response:
        run = _run(request, org, retraining_id, "deployment.write")
        return Response(RetrainingSerializer(releasing.promote(run, request.user)).data)


class RetrainingReject(APIView):
    @extend_schema(
        operation_id="retrainings_reject", request=RejectSerializer, responses=RetrainingSerializer, tags=["monitoring"]
    )
    def post(self, request: Request, org: str, retraining_id: int) -> Response:
        run = _run(request, org, retraining_id, "deployment.write")
        why = given(RejectSerializer, request.data)["reason"]
        return Response(RetrainingSerializer(releasing.reject(run, request.user, why)).data)


class RetrainingCancel(APIView):
    @extend_schema(operation_id="retrainings_cancel", request=None, responses=RetrainingSerializer, tags=["monitoring"])
    def post(self, request: Request, org: str, retraining_id: int) -> Response:
        run = _run(request, org, retraining_id, "deployment.write")
        return Response(RetrainingSerializer(releasing.cancel(run, request.user)).data)


# -- with a run's own tokens ----------------------------------------------------------------------------------------


class RunAuthentication(BaseAuthentication):
    """``Authorization: Bearer srt_...``: the run that the token opens, for what it was made. The caller is who set the policy up."""

    purpose: calling.Purpose

    def authenticate(self, request: Request) -> tuple[Caller, Retraining]:
        run = calling.run_of(presented_token(request.headers), self.purpose)
        wanted = request.parser_context["kwargs"]
        if run.pk != wanted["retraining_id"] or run.organization.slug != wanted["org"]:
            raise errors.Unauthenticated("This token is for another retraining.", code="invalid_token")
        caller = Caller(user=run.created_by)
        request._request.caller = caller
        return caller, run

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="slipway retraining"'


class DataToken(RunAuthentication):
    purpose = "data"


class PushToken(RunAuthentication):
    purpose = "push"


class _DataTokenScheme(OpenApiAuthenticationExtension):
    target_class, name = DataToken, "retrainingDataToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "tokens.data of a retraining's message: srt_..."}


class _PushTokenScheme(OpenApiAuthenticationExtension):
    target_class, name = PushToken, "retrainingPushToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "tokens.push of a retraining's message: srt_..."}


class RetrainingData(APIView):
    authentication_classes = (DataToken,)

    @extend_schema(
        operation_id="retrainings_data",
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY},
        tags=["monitoring"],
    )
    def get(self, request: Request, org: str, retraining_id: int, file: str) -> StreamingHttpResponse:
        """recent.jsonl or recent.csv (logged rows with what really happened), reference.<format> (as it was pushed)."""
        run: Retraining = request.auth
        runs.caller_of(run, "logs.view")
        try:
            content: Iterator[bytes] = rows.content(run, file)
        except KeyError:
            raise errors.NotFound(
                f"There is no file {file[:60]!r}.", hint=f"There are {', '.join(rows.files(run))}."
            ) from None
        audit.record(
            run.organization, request.user, "retraining.data_fetched", run.deployment, retraining=run.pk, file=file
        )
        answer = StreamingHttpResponse(content, content_type="application/octet-stream")
        answer["Content-Disposition"] = f'attachment; filename="{file}"'
        return answer


class RetrainingCandidate(APIView):
    authentication_classes = (PushToken,)
    parser_classes = (MultiPartParser, JSONParser)

    @extend_schema(
        operation_id="retrainings_candidate",
        request={"multipart/form-data": CandidateSerializer},
        responses={202: CandidatePushedSerializer},
        tags=["monitoring"],
    )
    def post(self, request: Request, org: str, retraining_id: int) -> Response:
        """Push the candidate: once. It is validated, compared, and proposed or rolled out as the policy says."""
        run: Retraining = request.auth
        version = incoming.pushed(run, request._request)
        told = {
            "retraining": run.pk,
            "model": run.deployment.model.slug,
            "version": version.number,
            "status": version.status,
            "sha256": version.sha256,
        }
        return Response(told, status=202)
