"""Uploads in pieces for scripts: tus 1.0 (any tus client works), and what an organisation's storage holds."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpResponse
from django.urls import reverse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access
from mlops.core import clock, errors
from mlops.core.pagination import listed
from registry import tus
from registry.models import Upload
from registry.services import quotas


class UploadSerializer(serializers.Serializer):
    """A file that comes in pieces."""

    id = serializers.UUIDField()
    filename = serializers.CharField()
    purpose = serializers.ChoiceField(Upload.Purpose.choices)
    length = serializers.IntegerField(help_text="Bytes of the whole file.")
    offset = serializers.IntegerField(help_text="Bytes that arrived and are safe.")
    whole = serializers.BooleanField()
    sha256 = serializers.CharField(help_text="Once whole.")
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()


class StorageSerializer(serializers.Serializer):
    """What an organisation has and may have. A limit of 0 is none."""

    used_bytes = serializers.IntegerField(help_text="stored_bytes and reserved_bytes")
    stored_bytes = serializers.IntegerField(help_text="Files of models and data, each content once.")
    reserved_bytes = serializers.IntegerField(help_text="Uploads under way, with their whole length.")
    free_bytes = serializers.IntegerField(allow_null=True, help_text="null: no limit")
    limit_bytes = serializers.IntegerField()
    versions = serializers.IntegerField()
    version_limit = serializers.IntegerField()


def _header(name: str, text: str, *, required: bool = True) -> OpenApiParameter:
    return OpenApiParameter(name, str, OpenApiParameter.HEADER, description=text, required=required)


_TUS = _header("Tus-Resumable", tus.VERSION)
_BODY = {(tus.CONTENT_TYPE): {"type": "string", "format": "binary"}}


class TusView(APIView):
    """Bodies go past DRF's parsers; every answer names the protocol."""

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        return tus.mark(super().finalize_response(request, response, *args, **kwargs))

    @extend_schema(exclude=True)
    def options(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        return tus.options()


class UploadList(TusView):
    @extend_schema(operation_id="uploads_list", responses=UploadSerializer(many=True))
    def get(self, request: Request, org: str) -> Response:
        """Those that can go on or be discarded: what takes room without being pushed."""
        organization = access.organization(request.user, org, "model.write")
        rows = Upload.objects.filter(organization=organization, used_at=None, expires_at__gt=clock.now())
        return listed(self, request, rows, UploadSerializer)

    @extend_schema(
        operation_id="uploads_create",
        description="tus creation. The answer's Location is the upload; push it with the form field upload=<id>.",
        parameters=[
            _TUS,
            _header("Upload-Length", "Bytes of the whole file."),
            _header("Upload-Metadata", "filename <base64>, and purpose <base64 of file, sample or reference>."),
        ],
        request=_BODY,
        responses={201: None},
    )
    def post(self, request: Request, org: str) -> HttpResponse:
        def address(upload: Upload) -> str:
            return reverse("api_upload_detail", kwargs={"org": org, "upload_id": upload.pk})

        return tus.create(request._request, request.user, org, address)


class UploadDetail(TusView):
    @extend_schema(operation_id="uploads_retrieve", responses=UploadSerializer)
    def get(self, request: Request, org: str, upload_id: uuid.UUID) -> HttpResponse:
        return tus.as_json(tus.find(request.user, org, upload_id))

    @extend_schema(exclude=True)
    def head(self, request: Request, org: str, upload_id: uuid.UUID) -> HttpResponse:
        return tus.head(tus.find(request.user, org, upload_id), request._request)

    @extend_schema(
        operation_id="uploads_append",
        parameters=[
            _TUS,
            _header("Upload-Offset", "Where these bytes begin: what HEAD told."),
            _header("Upload-Checksum", "sha256 or sha1 and the base64 of the digest of this body.", required=False),
        ],
        request=_BODY,
        responses={204: None},
    )
    def patch(self, request: Request, org: str, upload_id: uuid.UUID) -> HttpResponse:
        return tus.patch(tus.find(request.user, org, upload_id), request._request)

    @extend_schema(operation_id="uploads_discard", parameters=[_TUS], responses={204: None})
    def delete(self, request: Request, org: str, upload_id: uuid.UUID) -> HttpResponse:
        return tus.delete(tus.find(request.user, org, upload_id), request._request)

    @extend_schema(exclude=True)
    def post(self, request: Request, org: str, upload_id: uuid.UUID) -> HttpResponse:
        """With X-HTTP-Method-Override only."""
        upload = tus.find(request.user, org, upload_id)
        meant = {"PATCH": tus.patch, "DELETE": tus.delete, "HEAD": tus.head}.get(tus.method_of(request._request))
        if meant is None:
            raise errors.SlipwayError("POST is not allowed here.", code="method_not_allowed", status=405)
        return meant(upload, request._request)


class StorageDetail(APIView):
    @extend_schema(operation_id="storage_retrieve", responses=StorageSerializer)
    def get(self, request: Request, org: str) -> Response:
        return Response(StorageSerializer(quotas.usage(access.organization(request.user, org))).data)
