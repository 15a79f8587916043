"""Registration and sign-in for programs, through allauth's own forms and limits: same rules as on the pages."""

from __future__ import annotations

from allauth.account import app_settings
from allauth.account.adapter import get_adapter
from allauth.account.forms import SignupForm
from allauth.account.internal.flows.email_verification import send_verification_email_to_address
from allauth.account.models import EmailAddress
from allauth.account.signals import user_signed_up
from allauth.mfa.adapter import get_adapter as get_mfa_adapter
from allauth.mfa.base.forms import AuthenticateForm
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import update_last_login
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.http import HttpRequest

from accounts.models import User
from mlops.core import errors

_FIELDS = {"password1": "password", "__all__": "body"}
_CODES = [Authenticator.Type.TOTP, Authenticator.Type.RECOVERY_CODES]


def verification_is_mandatory() -> bool:
    return app_settings.EMAIL_VERIFICATION == app_settings.EmailVerificationMethod.MANDATORY


def register(request: HttpRequest, *, email: str, password: str) -> User | None:
    """A new person with a workspace, and the mail that asks to confirm the address. Raises Invalid for a bad address or password.

    An address that has an account: Conflict where mail verification is optional. Where it is mandatory the answer is None as if all
    were well, and its owner gets a mail, so that nobody learns who is registered.
    """
    form = SignupForm(data={"email": email, "password1": password})
    if not form.is_valid():
        raise _refusal(form)
    address = form.cleaned_data["email"]
    if form.account_already_exists:
        User().set_password(password)  # the same work as for a new account: time tells nothing
        send_verification_email_to_address(request, EmailAddress(user=None, email=address), signup=True)
        return None
    try:
        with transaction.atomic():
            user = form.save(request)
    except IntegrityError:  # registered in the same moment by another request
        raise _taken() from None
    user_signed_up.send(sender=User, request=request, user=user)
    send_verification_email_to_address(request, EmailAddress.objects.get(user=user, email__iexact=address), signup=True)
    return user


def _refusal(form: SignupForm) -> errors.SlipwayError:
    found = form.errors.as_data()
    if any(each.code == "email_taken" for each in found.get("email", [])):
        return _taken()
    fields = {_FIELDS.get(name, name): [str(text) for text in texts] for name, texts in form.errors.items()}
    first = next(iter(fields))
    return errors.Invalid(f"{first}: {fields[first][0]}", fields=fields)


def _taken() -> errors.Conflict:
    return errors.Conflict(
        "This address has an account already.",
        code="email_taken",
        hint="Sign in, or reset the password.",
        fields={"email": ["This address has an account already."]},
    )


def sign_in(request: HttpRequest, *, email: str, password: str, code: str = "") -> User:
    """The person with this password and, where they use one, this second factor. Raises Unauthenticated, Forbidden, RateLimited."""
    try:
        user = get_adapter().authenticate(request, email=email, password=password)
    except ValidationError:
        raise _too_many() from None
    if user is None:
        raise errors.Unauthenticated(
            "The address or the password is wrong.",
            code="invalid_credentials",
            hint="Check both, or reset the password.",
        )
    if not user.is_active:
        raise errors.Forbidden("This account is switched off.", code="account_inactive", hint="Ask your administrator.")
    _second_factor(user, code)
    _verified_address(request, user)
    update_last_login(User, user)
    return user


def _second_factor(user: User, code: str) -> None:
    if not get_mfa_adapter().is_mfa_enabled(user, _CODES):
        return
    if not code:
        raise errors.Unauthenticated(
            "This account uses a second factor.",
            code="mfa_required",
            hint='Send the code of your authenticator app as "code".',
        )
    form = AuthenticateForm(data={"code": code}, user=user)
    if form.is_valid():
        form.authenticator.record_usage()
        return
    if any(each.code == "too_many_login_attempts" for each in form.errors.as_data().get("code", [])):
        raise _too_many()
    raise errors.Unauthenticated(
        "This code is wrong or was used before.", code="mfa_invalid", hint="Wait for the next code, then try again."
    )


def _verified_address(request: HttpRequest, user: User) -> None:
    if not verification_is_mandatory() or EmailAddress.objects.filter(user=user, verified=True).exists():
        return
    address, _ = EmailAddress.objects.get_or_create(user=user, email=user.email, defaults={"primary": True})
    send_verification_email_to_address(request, address)
    raise errors.Forbidden(
        "This mail address is not confirmed yet.",
        code="email_unverified",
        hint="Open the link in the mail we sent you just now.",
    )


def _too_many() -> errors.RateLimited:
    return errors.RateLimited(
        "Too many failed sign-ins.", code="too_many_login_attempts", retry_after_s=300, hint="Wait five minutes."
    )
