"""Mail: text and HTML, by Django's mail backend (SMTP, or files in development)."""

from __future__ import annotations

import hashlib
import smtplib
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMultiAlternatives

from monitoring.channels import PermanentFailure
from monitoring.models import Notification


def send(notification: Notification) -> None:
    """Hand one mail to the server. A second try of the same row has the same Message-ID, so a mailbox can drop it."""
    host = urlsplit(settings.BASE_URL).hostname or "localhost"
    name = hashlib.sha256(notification.dedupe_key.encode()).hexdigest()[:32]
    message = EmailMultiAlternatives(
        subject=notification.subject,
        body=notification.text,
        to=[notification.recipient],
        headers={**notification.headers, "Message-ID": f"<{name}@{host}>"},
    )
    if notification.html:
        message.attach_alternative(notification.html, "text/html")
    try:
        message.send()
    except smtplib.SMTPRecipientsRefused as error:
        codes = [code for code, _ in error.recipients.values()]
        if codes and all(500 <= code < 600 for code in codes):
            raise PermanentFailure(f"The mail server refuses {notification.recipient}: {_said(error)}") from error
        raise
    except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
        if 500 <= error.smtp_code < 600:
            raise PermanentFailure(
                f"The mail server refused the mail: {error.smtp_code} {_text(error.smtp_error)}"
            ) from error
        raise


def _said(error: smtplib.SMTPRecipientsRefused) -> str:
    return "; ".join(f"{code} {_text(text)}" for code, text in error.recipients.values())


def _text(text: bytes | str) -> str:
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text
