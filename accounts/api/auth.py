"""JWT for people's programs: register, login, refresh, logout, me."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AnonymousUser
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import tokens
from accounts.authentication import presented_token
from accounts.caller import Caller
from accounts.models import Organization
from accounts.services import people
from accounts.throttling import AuthThrottle
from mlops.core import errors
from mlops.core.bodies import given


class RegisterSerializer(serializers.Serializer):
    email = serializers.EmailField()
    password = serializers.CharField(max_length=1024, trim_whitespace=False, style={"input_type": "password"})


class LoginSerializer(RegisterSerializer):
    code = serializers.CharField(
        max_length=32,
        required=False,
        help_text="Of the authenticator app, or a recovery code; for accounts with a second factor.",
    )


class RefreshSerializer(serializers.Serializer):
    refresh = serializers.CharField(max_length=4096)


class LogoutSerializer(serializers.Serializer):
    refresh = serializers.CharField(
        max_length=4096, required=False, help_text="Or send the access token as Authorization: Bearer."
    )


class TokensSerializer(serializers.Serializer):
    access = serializers.CharField()
    refresh = serializers.CharField(help_text="Works once; each refresh gives the next one.")
    token_type = serializers.CharField()
    expires_in = serializers.IntegerField(help_text="Seconds the access token lives.")


class SlugSerializer(serializers.Serializer):
    slug = serializers.SlugField()


class RegisteredSerializer(TokensSerializer):
    organization = SlugSerializer(allow_null=True)


class RoleInSerializer(SlugSerializer):
    name = serializers.CharField()
    role = serializers.CharField()


class MeSerializer(serializers.Serializer):
    email = serializers.EmailField()
    name = serializers.CharField()
    organizations = RoleInSerializer(many=True)


class PendingSerializer(serializers.Serializer):
    detail = serializers.CharField()


class _Door(APIView):
    """Open to strangers, limited per address."""

    authentication_classes = ()
    permission_classes = ()
    throttle_classes = (AuthThrottle,)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        request._request.user = AnonymousUser()  # allauth asks it questions


class Register(_Door):
    @extend_schema(
        operation_id="auth_register",
        auth=[],
        request=RegisterSerializer,
        responses={
            201: RegisteredSerializer,
            202: OpenApiResponse(PendingSerializer, "Confirm the mail address first."),
        },
    )
    def post(self, request: Request) -> Response:
        """A person with a workspace of their own. 202 without tokens where the mail address must be confirmed first."""
        user = people.register(request._request, **given(RegisterSerializer, request.data))
        if people.verification_is_mandatory():
            return Response({"detail": "We sent a mail: open its link, then sign in."}, status=202)
        assert user is not None  # without mandatory verification an address that is taken is a conflict
        own = Organization.objects.filter(
            members=user, personal=True
        ).first()  # none for the invited where accounts.trust allows one
        workspace = {"slug": own.slug} if own is not None else None
        return Response({**tokens.open_session(user).as_answer(), "organization": workspace}, status=201)


class Login(_Door):
    @extend_schema(operation_id="auth_login", auth=[], request=LoginSerializer, responses=TokensSerializer)
    def post(self, request: Request) -> Response:
        """401 ``mfa_required``: send it again with ``code``."""
        user = people.sign_in(request._request, **given(LoginSerializer, request.data))
        return Response(tokens.open_session(user).as_answer())


class Refresh(_Door):
    @extend_schema(operation_id="auth_refresh", auth=[], request=RefreshSerializer, responses=TokensSerializer)
    def post(self, request: Request) -> Response:
        """A refresh token works once. Its second use closes the session."""
        return Response(tokens.refresh(given(RefreshSerializer, request.data)["refresh"]).as_answer())


class Logout(_Door):
    @extend_schema(operation_id="auth_logout", request=LogoutSerializer, responses={204: None})
    def post(self, request: Request) -> Response:
        """Closes the session of the token: its access tokens die at once."""
        refresh = given(LogoutSerializer, request.data).get("refresh")
        access = presented_token(request.headers)
        if not refresh and not access:
            raise errors.Unauthenticated(
                "Send the token to log out.",
                hint="Authorization: Bearer <access token>, or the refresh token in the body.",
            )
        tokens.close_session(refresh or access, tokens.REFRESH if refresh else tokens.ACCESS)
        return Response(status=204)


class Me(APIView):
    @extend_schema(operation_id="auth_me", responses=MeSerializer)
    def get(self, request: Request) -> Response:
        """Who the token or key stands for, and the role in each organisation."""
        caller: Caller = request.user
        person = caller.person
        rows = Organization.objects.filter(pk__in=caller.organization_ids)
        organizations = [{"slug": row.slug, "name": row.name, "role": caller.roles[row.pk].value} for row in rows]
        return Response({"email": person.email, "name": person.name, "organizations": organizations})
