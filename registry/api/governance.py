"""Promotions, a model's rule for them, revocation, lineage and the signature itself, for scripts."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access
from accounts.idempotency import idempotent
from mlops.core import errors
from mlops.core.bodies import given
from mlops.core.pagination import listed
from registry import downloads, lineage, lookup, uses
from registry.models import Approval, Promotion, PromotionPolicy
from registry.models.promotion import MOST_APPROVALS
from registry.services import policies, promotions, revocation, stages

NOTE = promotions.NOTE_CHARACTERS


# -- shapes -------------------------------------------------------------------------------------------------------------
class ApprovalSerializer(serializers.ModelSerializer):
    class Meta:
        model = Approval
        fields = ("name", "verdict", "comment", "at")


class PromotionSerializer(serializers.ModelSerializer):
    model = serializers.CharField(source="version.model.slug")
    version = serializers.IntegerField(source="version.number")
    approvals = ApprovalSerializer(many=True)
    attestation = serializers.JSONField(source="envelope", allow_null=True, help_text="DSSE envelope, once approved.")

    class Meta:
        model = Promotion
        fields = (
            "id", "model", "version", "from_stage", "to_stage", "state", "reason", "requester", "requested_at", "decided_at",
            "approvals", "attestation",
        )  # fmt: skip


class PromotionWrite(serializers.Serializer):
    to_stage = serializers.CharField(max_length=20, help_text="staging or production")
    reason = serializers.CharField(max_length=NOTE, required=False, allow_blank=True, default="")


class WordSerializer(serializers.Serializer):
    comment = serializers.CharField(max_length=NOTE, required=False, allow_blank=True, default="")


class PolicySerializer(serializers.ModelSerializer):
    """Without approvals nothing is asked for. What a PUT does not name goes back to its default."""

    staging_approvals = serializers.IntegerField(min_value=0, max_value=MOST_APPROVALS, default=0)
    production_approvals = serializers.IntegerField(min_value=0, max_value=MOST_APPROVALS, default=0)
    author_may_approve = serializers.BooleanField(
        default=False, help_text="Whether who pushed the version, or asked for the promotion, counts too."
    )
    approver_role = serializers.ChoiceField(("developer", "admin", "owner"), default="admin")
    required_checks = serializers.ListField(
        child=serializers.ChoiceField(policies.CHECK_NAMES),
        default=list,
        help_text="Must have passed without a warning.",
    )
    places = serializers.DictField(
        child=serializers.CharField(max_length=20),
        default=dict,
        help_text="Deployment -> dev or staging. Every other one is production.",
    )

    class Meta:
        model = PromotionPolicy
        fields = policies.FIELDS


class RevokeSerializer(serializers.Serializer):
    reason = serializers.CharField(max_length=NOTE)
    rollback_to = serializers.IntegerField(
        min_value=1, required=False, allow_null=True, default=None, help_text="Answers instead wherever it is live."
    )
    force = serializers.BooleanField(default=False, help_text="Where it is live, go back to the good version before.")


class StandingSerializer(serializers.Serializer):
    deployment = serializers.CharField(source="place")
    weight = serializers.IntegerField(help_text="Per cent of its requests.")
    back_to = serializers.IntegerField(allow_null=True, help_text="The good version before; null: there is none.")


class RevocationSerializer(serializers.Serializer):
    """``live_in``: where a revocation must put another version in its place."""

    revoked_at = serializers.DateTimeField(allow_null=True)
    reason = serializers.CharField()
    live_in = StandingSerializer(many=True)


class NodeSerializer(serializers.Serializer):
    id = serializers.CharField()
    kind = serializers.CharField(
        help_text="dataset, run, commit, environment, version, form, promotion, deployment or predictions."
    )
    label = serializers.CharField()
    detail = serializers.CharField()
    url = serializers.SerializerMethodField(help_text="Its page; empty: it has none.")
    at = serializers.DateTimeField(allow_null=True)
    here = serializers.BooleanField(help_text="The version that was asked about.")

    def get_url(self, node: lineage.Node) -> str:
        return settings.BASE_URL + node.url if node.url else ""


class EdgeSerializer(serializers.Serializer):
    source = serializers.CharField()
    target = serializers.CharField()
    label = serializers.CharField()


class LineageSerializer(serializers.Serializer):
    """From what was first to what came of it; never in a circle."""

    nodes = NodeSerializer(many=True)
    edges = EdgeSerializer(many=True)


# -- doors --------------------------------------------------------------------------------------------------------------
def _rows() -> QuerySet[Promotion]:
    return Promotion.objects.select_related("organization", "version__model").prefetch_related("approvals")


def _shown(row: Promotion, status: int = 200) -> Response:
    return Response(PromotionSerializer(_rows().get(pk=row.pk)).data, status=status)


def _promotion(request: Request, org: str, model: str, number: int, promotion_id: int, action: str) -> Promotion:
    found = {"organization__slug": org, "version__model__slug": model, "version__number": number, "pk": promotion_id}
    return access.get(request.user, _rows(), action, **found)


class PromotionList(APIView):
    @extend_schema(operation_id="promotions_list", responses=PromotionSerializer(many=True))
    def get(self, request: Request, org: str, model: str, number: int) -> Response:
        version = lookup.version_of(request, org, model, number)
        return listed(self, request, _rows().filter(version=version), PromotionSerializer)

    @extend_schema(operation_id="promotions_request", request=PromotionWrite, responses={201: PromotionSerializer})
    @idempotent
    def post(self, request: Request, org: str, model: str, number: int) -> Response:
        """Approved at once where the model's rule asks for no approval."""
        version = lookup.version_of(request, org, model, number, "model.write")
        body = given(PromotionWrite, request.data)
        row = promotions.request_promotion(version, request.user, to=body["to_stage"], reason=body["reason"])
        return _shown(row, 201)


class PromotionDetail(APIView):
    @extend_schema(operation_id="promotions_retrieve", responses=PromotionSerializer)
    def get(self, request: Request, org: str, model: str, number: int, promotion_id: int) -> Response:
        return _shown(_promotion(request, org, model, number, promotion_id, "model.view"))


class PromotionApprove(APIView):
    @extend_schema(operation_id="promotions_approve", request=WordSerializer, responses=PromotionSerializer)
    def post(self, request: Request, org: str, model: str, number: int, promotion_id: int) -> Response:
        """One person's yes; a key speaks for who made it. The last one needed promotes the version."""
        row = _promotion(request, org, model, number, promotion_id, "version.approve")
        return _shown(promotions.approve(row, request.user, **given(WordSerializer, request.data)))


class PromotionReject(APIView):
    @extend_schema(operation_id="promotions_reject", request=WordSerializer, responses=PromotionSerializer)
    def post(self, request: Request, org: str, model: str, number: int, promotion_id: int) -> Response:
        """One no ends it."""
        row = _promotion(request, org, model, number, promotion_id, "version.approve")
        return _shown(promotions.reject(row, request.user, **given(WordSerializer, request.data)))


class PromotionWithdraw(APIView):
    @extend_schema(operation_id="promotions_withdraw", request=None, responses=PromotionSerializer)
    def post(self, request: Request, org: str, model: str, number: int, promotion_id: int) -> Response:
        row = _promotion(request, org, model, number, promotion_id, "model.write")
        return _shown(promotions.withdraw(row, request.user))


class PromotionsOfOrganization(APIView):
    @extend_schema(
        operation_id="organization_promotions_list",
        parameters=[OpenApiParameter("state", str, enum=Promotion.State.values)],
        responses=PromotionSerializer(many=True),
    )
    def get(self, request: Request, org: str) -> Response:
        """Of every model, newest first; `?state=requested` for those that wait."""
        organization = access.organization(request.user, org, "model.view")
        rows = _rows().filter(organization=organization)
        state = request.query_params.get("state", "")
        if state and state not in Promotion.State.values:
            raise errors.Invalid(
                f"There is no state {state[:20]!r}.", hint=f"There are {', '.join(Promotion.State.values)}."
            )
        return listed(self, request, rows.filter(state=state) if state else rows, PromotionSerializer)


class PolicyDetail(APIView):
    @extend_schema(operation_id="policies_retrieve", responses=PolicySerializer)
    def get(self, request: Request, org: str, model: str) -> Response:
        return Response(PolicySerializer(stages.policy_of(lookup.model_of(request, org, model))).data)

    @extend_schema(operation_id="policies_set", request=PolicySerializer, responses=PolicySerializer)
    def put(self, request: Request, org: str, model: str) -> Response:
        row = lookup.model_of(request, org, model, "org.manage")
        policy = policies.set_policy(row, request.user, **given(PolicySerializer, request.data))
        return Response(PolicySerializer(policy).data)


class VersionRevoke(APIView):
    @extend_schema(operation_id="versions_revocation", responses=RevocationSerializer)
    def get(self, request: Request, org: str, model: str, number: int) -> Response:
        """Whether it is revoked; where it is live, and what would answer instead."""
        return _revocation(lookup.version_of(request, org, model, number))

    @extend_schema(operation_id="versions_revoke", request=RevokeSerializer, responses=RevocationSerializer)
    def post(self, request: Request, org: str, model: str, number: int) -> Response:
        """For good: it is never loaded again. Where it is live say `rollback_to` or `force`, else 409 `version_live`."""
        version = lookup.version_of(request, org, model, number, "version.revoke")
        return _revocation(revocation.revoke_version(version, request.user, **given(RevokeSerializer, request.data)))


def _revocation(version: Any) -> Response:
    told = {"revoked_at": version.revoked_at, "reason": version.revoked_reason, "live_in": uses.standing(version)}
    return Response(RevocationSerializer(told).data)


class VersionLineage(APIView):
    @extend_schema(operation_id="versions_lineage", responses=LineageSerializer)
    def get(self, request: Request, org: str, model: str, number: int) -> Response:
        graph = lineage.of_version(lookup.version_of(request, org, model, number))
        graph.ranks()
        told = {"nodes": graph.nodes.values(), "edges": graph.edges.values()}
        return Response(LineageSerializer(told).data)


_ENVELOPE = inline_serializer(
    "Attestation",
    {
        "payloadType": serializers.CharField(),
        "payload": serializers.CharField(help_text="Base64 of the in-toto statement."),
        "signatures": serializers.ListField(child=serializers.DictField()),
    },
)


class VersionAttestation(APIView):
    @extend_schema(operation_id="versions_attestation", responses={200: _ENVELOPE, 404: OpenApiTypes.OBJECT})
    def get(self, request: Request, org: str, model: str, number: int) -> HttpResponse:
        """The DSSE envelope as it was signed at acceptance. How to check it without Slipway: docs/signing.md."""
        return downloads.attestation(lookup.version_of(request, org, model, number))
