"""Where git servers call: no session, no key. The signature of the body is the permission."""

from __future__ import annotations

from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from registry import hooks
from registry.services import deliveries


class HookAnswer(serializers.Serializer):
    status = serializers.ChoiceField(("queued", "closed", "ignored", "duplicate"))
    push = serializers.IntegerField(required=False, help_text="The push that was made, or is known.")
    reason = serializers.CharField(required=False)


class SourceHook(APIView):
    """Signed as GitHub does (X-Hub-Signature-256), or as the Standard Webhooks specification says (webhook-signature)."""

    authentication_classes = ()
    permission_classes = ()

    @extend_schema(
        operation_id="sources_hook",
        request={"application/json": dict},
        auth=[],
        responses={200: HookAnswer, 202: HookAnswer},
    )
    def post(self, request: Request, source_id: str) -> Response:
        plain = request._request  # the signature is over these very bytes
        length = plain.headers.get("Content-Length", "")
        if length.isdigit() and int(length) > hooks.LIMIT_BYTES:
            raise deliveries.too_large()
        status, push, reason = deliveries.accept(source_id, plain.headers, plain.body)
        said = {"status": status} | ({"push": push.pk} if push else {}) | ({"reason": reason} if reason else {})
        return Response(said, status=202 if status == "queued" else 200)


urlpatterns = [path("hooks/<str:source_id>", SourceHook.as_view(), name="source_hook")]
