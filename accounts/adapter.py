"""allauth, made ours: a workspace for everyone who signs up, second-factor secrets that are not stored in clear, mails in text and HTML."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from django.core.mail import EmailMultiAlternatives
from django.db import transaction
from django.http import HttpRequest
from django.template.loader import render_to_string

from accounts import sealing, services, trust
from accounts.addresses import client_ip
from accounts.models import User

_PURPOSE = "mfa"
INVITED_EMAIL = "invited_email"  # in the session of a browser that opened an invitation's link


class AccountAdapter(DefaultAccountAdapter):
    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        """The person and their workspace, or neither; on a server of one organisation (accounts.trust) the invited get no other."""
        with transaction.atomic():
            saved = super().save_user(request, user, form, commit=False)
            trust.require_may_sign_up(saved.email)
            if commit:
                saved.save()
                if trust.may_found():
                    services.personal_organization(saved, ip=client_ip(request))
        return saved

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """The page; ``save_user`` looks at the address."""
        return trust.may_found() or trust.is_invited(request.session.get(INVITED_EMAIL, ""))

    def is_email_verified(self, request: HttpRequest, email: str) -> bool:
        """Also the address of an invitation whose link this browser opened: who brings the token has read the mail.

        allauth's own stash would give that address to whatever account is made next; this one only confirms it for itself.
        """
        invited = request.session.get(INVITED_EMAIL, "")
        return invited.lower() == email.lower() if invited else super().is_email_verified(request, email)

    def get_client_ip(self, request: HttpRequest) -> str:
        """The same address everywhere: behind SLIPWAY_PROXIES trusted proxies."""
        return client_ip(request) or "unknown"

    def add_message(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        """Messages are for pages: an API answer sets no cookie."""
        if not request.path.startswith("/api/"):
            super().add_message(request, *args, **kwargs)

    def render_mail(
        self,
        template_prefix: str,
        email: str | list[str],
        context: dict[str, Any],
        headers: dict[str, str] | None = None,
    ) -> EmailMultiAlternatives:
        """allauth's text, and the same as HTML in our frame."""
        message = super().render_mail(template_prefix, email, context, headers)
        if isinstance(message, EmailMultiAlternatives) and not message.alternatives:
            html = render_to_string("accounts/mail/plain.html", {"title": message.subject, "text": message.body})
            message.attach_alternative(html, "text/html")
        return message


class MfaAdapter(DefaultMFAAdapter):
    """TOTP secrets and the seed of recovery codes rest sealed."""

    def encrypt(self, text: str) -> str:
        return sealing.seal(text, _PURPOSE)

    def decrypt(self, encrypted_text: str) -> str:
        return sealing.unseal(encrypted_text, _PURPOSE)

    def get_totp_issuer(self) -> str:
        return "Slipway"
