"""Ways to reach people. A channel is a module with ``send(notification)`` and a line in ``channels``.

``send`` returns when the message was taken over: an ``Answer``, or None where there is nothing to tell. It raises ``NotTaken`` when the
other side would not have it, ``PermanentFailure`` when trying again cannot help (an address that does not exist), and anything else when
it can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monitoring.models import Notification

REPLY_CHARS = 500


@dataclass(frozen=True)
class Answer:
    """What the other side said: HTTP status, and the beginning of its text."""

    status: int | None = None
    reply: str = ""


class NotTaken(Exception):
    """Not taken; tried again later. The text is shown to people.

    wait_s: what the other side asked for. refusal: it understood and does not want it; when it stays so to the last try, the
    channel is switched off.
    """

    def __init__(
        self, text: str, answer: Answer | None = None, *, wait_s: float | None = None, refusal: bool = False
    ) -> None:
        super().__init__(text)
        self.answer, self.wait_s, self.refusal = answer or Answer(), wait_s, refusal


class PermanentFailure(NotTaken):
    """It will never arrive: no retries."""


class Gone(PermanentFailure):
    """The receiver is there no more and says so: the channel is switched off at once."""


def channels() -> dict[str, Callable[[Notification], Answer | None]]:
    from monitoring.channels import chat, email, webhook

    chats = dict.fromkeys(("slack", "teams", "discord", "ntfy", "pagerduty"), chat.send)
    return {"email": email.send, "webhook": webhook.send, **chats}
