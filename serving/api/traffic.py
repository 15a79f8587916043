"""Traffic between versions for scripts: the route table, guarded rollouts, shadows, previews."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access
from accounts.idempotency import idempotent
from mlops.core import errors
from mlops.core.bodies import given
from mlops.core.pagination import listed
from registry.models import ModelVersion
from serving import shadow_records
from serving.api.deployments import get_deployment
from serving.api.serializers import DeploymentSerializer
from serving.models import Deployment, Preview, Rollout, ShadowFlip, Sticky
from serving.periods import parse_since
from serving.services import previews, rollouts, traffic
from serving.services.rollouts import Plan


def _version(request: Request, row: Deployment, number: int) -> ModelVersion:
    rows = ModelVersion.objects.select_related("model").filter(model=row.model)
    return access.get(request.user, rows, "model.view", number=number)


# --- The route table ------------------------------------------------------------------------------------------------------


class LineSerializer(serializers.Serializer):
    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1)
    weight = serializers.IntegerField(
        required=False, allow_null=True, help_text="Per cent of the requests, 1 to 100; none for a shadow."
    )
    shadow = serializers.BooleanField(
        default=False, help_text="Asked of every request after the answer, never returned."
    )


class TrafficSerializer(serializers.Serializer):
    routes = LineSerializer(many=True, help_text="The whole table; the weights sum to 100.")
    sticky = serializers.ChoiceField(
        Sticky.choices, required=False, help_text="What keeps a caller on one version. Left out: as it is."
    )


class Traffic(APIView):
    @extend_schema(operation_id="deployments_traffic", request=TrafficSerializer, responses=DeploymentSerializer)
    def put(self, request: Request, org: str, name: str) -> Response:
        """Share the requests between versions. Every version is loaded first; the table changes in one step, without a failed request.

        Ends a guarded rollout that is under way.
        """
        row = get_deployment(request, org, name, "deployment.write")
        body = given(TrafficSerializer, request.data)
        wishes = [traffic.Wish(line["version"], line.get("weight"), line["shadow"]) for line in body["routes"]]
        changed = traffic.set_traffic(row, wishes, request.user, sticky=body.get("sticky"))
        return Response(DeploymentSerializer(changed, context={"request": request}).data)


# --- Guarded rollouts -----------------------------------------------------------------------------------------------------


class PlanSerializer(serializers.Serializer):
    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1, help_text="The candidate.")
    steps = serializers.ListField(
        child=serializers.IntegerField(), required=False, help_text="Per cent of the requests, rising to 100."
    )
    bake_seconds = serializers.IntegerField(required=False, help_text="Least time of a step. 600.")
    min_requests = serializers.IntegerField(required=False, help_text="Of the candidate, per step. 100.")
    max_error_increase = serializers.FloatField(
        required=False, help_text="Share of its requests that may fail beyond the live version's. 0.02."
    )
    max_latency_factor = serializers.FloatField(required=False, help_text="Its p95 against the live version's. 1.5.")
    max_shift = serializers.FloatField(
        required=False,
        allow_null=True,
        help_text="Largest difference in the shares of predictions. 0.1; null: predictions are not judged.",
    )


class RolloutSerializer(serializers.ModelSerializer):
    champion = serializers.IntegerField(source="champion.number")
    candidate = serializers.IntegerField(source="candidate.number")
    bake_seconds = serializers.IntegerField(source="bake_s")
    share = serializers.IntegerField(help_text="Per cent of the requests at this step.")
    progress = serializers.SerializerMethodField(help_text="This step: requests, what was judged, what it waits for.")

    class Meta:
        model = Rollout
        fields = (
            "id", "state", "champion", "candidate", "steps", "step", "share", "bake_seconds", "min_requests",
            "max_error_increase", "max_latency_factor", "max_shift", "reason", "progress", "actor", "created_at",
            "step_started_at", "ended_at",
        )  # fmt: skip
        read_only_fields = fields

    def get_progress(self, row: Rollout) -> dict[str, Any]:
        seen = rollouts.look(row)
        return {
            "waiting": seen.waiting,
            "checks": seen.checks,
            "baked_until": seen.baked_until if row.open else None,
            "candidate": {"requests": seen.candidate.requests, "errors": seen.candidate.errors},
            "champion": {"requests": seen.champion.requests, "errors": seen.champion.errors},
        }


def _rollout(row: Deployment) -> Rollout:
    found = rollouts.latest(row)
    if found is None:
        raise errors.NotFound(
            f"{row.name} has had no rollout.", code="no_rollout", hint='Begin one: POST .../rollout {"version": 4}.'
        )
    return found


class RolloutDetail(APIView):
    @extend_schema(operation_id="rollouts_retrieve", responses=RolloutSerializer)
    def get(self, request: Request, org: str, name: str) -> Response:
        """The rollout under way, or the last one."""
        found = _rollout(get_deployment(request, org, name, "deployment.view"))
        if rollouts.tick(found):
            found = _rollout(found.deployment)
        return Response(RolloutSerializer(found).data)

    @extend_schema(operation_id="rollouts_create", request=PlanSerializer, responses={201: RolloutSerializer})
    @idempotent
    def post(self, request: Request, org: str, name: str) -> Response:
        """Send a version 1, 10, 50, then 100 % of the requests, and take it back by itself if it does worse than the live one."""
        row = get_deployment(request, org, name, "deployment.write")
        fields = given(PlanSerializer, request.data)
        version = _version(request, row, fields.pop("version"))
        if "bake_seconds" in fields:
            fields["bake_s"] = fields.pop("bake_seconds")
        return Response(RolloutSerializer(rollouts.start(row, version, request.user, Plan(**fields))).data, status=201)


class RolloutList(APIView):
    @extend_schema(operation_id="rollouts_list", responses=RolloutSerializer(many=True))
    def get(self, request: Request, org: str, name: str) -> Response:
        row = get_deployment(request, org, name, "deployment.view")
        rows = Rollout.objects.filter(deployment=row).select_related("deployment", "champion", "candidate")
        return listed(self, request, rows, RolloutSerializer)


ACTS = {"pause": rollouts.hold, "resume": rollouts.go_on, "promote": rollouts.promote, "abort": rollouts.abort}


class RolloutAct(APIView):
    @extend_schema(
        operation_id="rollouts_act",
        request=None,
        responses=RolloutSerializer,
        parameters=[OpenApiParameter("act", str, "path", enum=sorted(ACTS))],
    )
    def post(self, request: Request, org: str, name: str, act: str) -> Response:
        """`pause` holds it at its step, `resume` goes on, `promote` sends everything to the candidate now, `abort` takes it back."""
        row = get_deployment(request, org, name, "deployment.write")
        if act not in ACTS:
            raise errors.NotFound(f"A rollout has no {act!r}.", hint=f"There are {', '.join(sorted(ACTS))}.")
        return Response(RolloutSerializer(ACTS[act](_rollout(row), request.user)).data)


# --- Shadows --------------------------------------------------------------------------------------------------------------


class FlipSerializer(serializers.ModelSerializer):
    champion = serializers.IntegerField(source="champion.number")

    class Meta:
        model = ShadowFlip
        fields = ("at", "prediction_id", "champion", "features", "ours", "theirs", "shift")
        read_only_fields = fields


class ShadowSerializer(serializers.Serializer):
    version = serializers.IntegerField(source="version.number")
    requests = serializers.IntegerField()
    errors = serializers.IntegerField(help_text="Asked, and not answered.")
    dropped = serializers.IntegerField(help_text="Not asked: too many were waiting.")
    rows = serializers.IntegerField(help_text="Compared.")
    flipped = serializers.IntegerField(help_text="Rows answered differently.")
    agreement = serializers.FloatField(allow_null=True)
    mean_shift = serializers.FloatField(
        allow_null=True, help_text="Mean of the largest change of any probability; of numbers, of their distance."
    )
    p95_ms = serializers.FloatField(allow_null=True)
    live_p95_ms = serializers.FloatField(allow_null=True)
    flips = FlipSerializer(many=True, help_text="The newest few; empty for who may not see the log.")


class ShadowList(APIView):
    @extend_schema(
        operation_id="shadows_list",
        parameters=[OpenApiParameter("since", str, description="How far back: 24h, 7d, or an ISO time.")],
        responses=ShadowSerializer(many=True),
    )
    def get(self, request: Request, org: str, name: str) -> Response:
        """What each shadow version answered, beside what was answered."""
        row = get_deployment(request, org, name, "deployment.view")
        since = parse_since(request.query_params.get("since", "7d"))
        examples = shadow_records.EXAMPLES if request.user.can("logs.view", row.organization_id) else 0
        found = [
            shadow_records.read(row.pk, route.version, since, examples=examples)
            for route in row.routes.all()
            if route.shadow
        ]
        return Response({"results": ShadowSerializer(found, many=True).data, "next": None})


# --- Previews -------------------------------------------------------------------------------------------------------------


class PreviewSerializer(serializers.ModelSerializer):
    version = serializers.IntegerField(source="version.number")
    url = serializers.SerializerMethodField()

    class Meta:
        model = Preview
        fields = ("name", "version", "url", "actor", "created_at", "expires_at")
        read_only_fields = fields

    def get_url(self, row: Preview) -> str:
        return str(self.context["request"].build_absolute_uri(previews.path_of(row.deployment, row.name)))


class NewPreviewSerializer(serializers.Serializer):
    name = serializers.CharField(max_length=63)
    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1)
    days = serializers.IntegerField(
        default=previews.DAYS, min_value=1, max_value=previews.MOST_DAYS, help_text="Until it expires."
    )


_PREVIEWS = Preview.objects.select_related("deployment__organization", "version")


class PreviewList(APIView):
    @extend_schema(operation_id="previews_list", responses=PreviewSerializer(many=True))
    def get(self, request: Request, org: str, name: str) -> Response:
        """Named ones. Beside them `v3` is there for every ready version of the model."""
        row = get_deployment(request, org, name, "deployment.view")
        return listed(self, request, _PREVIEWS.living().filter(deployment=row), PreviewSerializer)

    @extend_schema(operation_id="previews_create", request=NewPreviewSerializer, responses={201: PreviewSerializer})
    @idempotent
    def post(self, request: Request, org: str, name: str) -> Response:
        row = get_deployment(request, org, name, "deployment.write")
        body = given(NewPreviewSerializer, request.data)
        made = previews.create(
            deployment=row,
            name=body["name"],
            version=_version(request, row, body["version"]),
            caller=request.user,
            days=body["days"],
        )
        return Response(PreviewSerializer(made, context={"request": request}).data, status=201)


class PreviewDetail(APIView):
    @extend_schema(operation_id="previews_retrieve", responses=PreviewSerializer)
    def get(self, request: Request, org: str, name: str, preview: str) -> Response:
        row = get_deployment(request, org, name, "deployment.view")
        found = access.get(request.user, _PREVIEWS.living(), "deployment.view", deployment=row, name=preview)
        return Response(PreviewSerializer(found, context={"request": request}).data)

    @extend_schema(operation_id="previews_destroy", responses={204: None})
    def delete(self, request: Request, org: str, name: str, preview: str) -> Response:
        row = get_deployment(request, org, name, "deployment.write")
        previews.delete(
            access.get(request.user, _PREVIEWS, "deployment.write", deployment=row, name=preview), request.user
        )
        return Response(status=204)
