"""Mail: text and HTML, by Django's mail backend (SMTP, or files in development)."""

from __future__ import annotations

import contextlib
import hashlib
import smtplib
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMultiAlternatives, get_connection

from monitoring.channels import PermanentFailure
from monitoring.models import Notification

MOST_S = 60.0  # for one mail


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
        _send(message)
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


def _send(message: EmailMultiAlternatives) -> None:
    """Each answer of the server has EMAIL_TIMEOUT; all of it has ``MOST_S``: a byte now and then never runs into the first."""
    backend = get_connection()
    message.connection = backend
    watch = threading.Timer(MOST_S, _shut, (backend,))
    watch.daemon = True
    watch.start()
    try:
        message.send()
    finally:
        watch.cancel()


def _shut(backend: Any) -> None:
    sock = getattr(getattr(backend, "connection", None), "sock", None)  # other backends have none
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _said(error: smtplib.SMTPRecipientsRefused) -> str:
    return "; ".join(f"{code} {_text(text)}" for code, text in error.recipients.values())


def _text(text: bytes | str) -> str:
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text
