"""Mails as readable ``.eml`` files when no SMTP server is set: development's mailbox, and proof in the demo."""

from __future__ import annotations

import os
from pathlib import Path

from django.conf import settings
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend

from mlops.core import ids


class MailFileBackend(BaseEmailBackend):
    """Writes each message to ``EMAIL_FILE_PATH/<time-ordered id>.eml``, whole or not at all."""

    def send_messages(self, email_messages: list[EmailMessage]) -> int:
        folder = Path(settings.EMAIL_FILE_PATH)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for message in email_messages:
            name = folder / f"{ids.uuid7()}.eml"
            part = name.with_suffix(".part")
            part.write_bytes(message.message().as_bytes())
            os.replace(part, name)
        return len(email_messages)
