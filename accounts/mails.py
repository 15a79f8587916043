"""Mails of the accounts: text and HTML of one template pair. A mail server that is away is no crash: the page says what was not sent."""

from __future__ import annotations

import smtplib
from typing import Any

from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string

from mlops.core import logs

log = logs.get(__name__)


def send(template: str, *, to: str, subject: str, context: dict[str, Any]) -> bool:
    """Send ``<template>.txt`` and ``<template>.html``. Whether the server took it."""
    subject = " ".join(subject.split())
    message = EmailMultiAlternatives(subject, render_to_string(f"{template}.txt", context).strip() + "\n", to=[to])
    message.attach_alternative(render_to_string(f"{template}.html", {**context, "title": subject}), "text/html")
    try:
        message.send()
    except (OSError, smtplib.SMTPException) as error:
        log.warning("mail_not_sent", template=template, error=str(error))
        return False
    return True
