"""Ways to reach people. A channel is a module with ``send(notification)`` and a line in ``CHANNELS``.

``send`` returns when the message was taken over, raises ``PermanentFailure`` when trying again cannot help (an address
that does not exist), and anything else when it can.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monitoring.models import Notification


class PermanentFailure(Exception):
    """It will never arrive: no retries. The text is shown to people."""


def channels() -> dict[str, Callable[[Notification], None]]:
    from monitoring.channels import email

    return {"email": email.send}
