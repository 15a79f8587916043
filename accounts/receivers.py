"""A new password ends what the old one opened: every JWT session of the person. (Pages: Django and allauth do so themselves.)"""

from __future__ import annotations

from typing import Any

from allauth.account.signals import password_changed, password_reset, password_set
from allauth.mfa.signals import authenticator_added
from django.dispatch import receiver

from accounts import tokens
from accounts.models import User


@receiver([password_changed, password_reset, password_set, authenticator_added])
def end_sessions(sender: type, user: User, **kwargs: Any) -> None:
    tokens.close_all(user)
