"""What an HTTP answer means for a message: taken, try again, or never again."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from mlops.core import clock, errors, outbound
from mlops.core.storable import storable
from monitoring.channels import REPLY_CHARS, Answer, Gone, NotTaken

_BUSY = (408, 425, 429)  # a client error by number, and yet nobody's fault
_GONE = 410
_MOST_WAIT_S = 24 * 3600.0  # a number beyond it is a mistake


def judge(reply: outbound.Reply, who: str) -> Answer:
    """Taken (2xx). Raises NotTaken or Gone for every other status."""
    answer = Answer(reply.status, excerpt(reply.body))
    if 200 <= reply.status < 300:
        return answer
    text = f"{who} answered {reply.status}" + (f": {answer.reply[:120]}" if answer.reply else "")
    if reply.status == _GONE:
        raise Gone(text, answer)
    refusal = 400 <= reply.status < 500 and reply.status not in _BUSY
    raise NotTaken(text, answer, wait_s=wait_of(reply.headers.get("retry-after", "")), refusal=refusal)


def not_reached(error: errors.SlipwayError) -> NotTaken:
    """Our own client could not, or may not, go there. An address that is not public (any more) is a refusal, too."""
    return NotTaken(error.detail, refusal=isinstance(error, errors.Invalid))


def excerpt(body: bytes) -> str:
    """The beginning of an answer in one line that any page can show."""
    text = storable(body[: 4 * REPLY_CHARS].decode("utf-8", "replace"))
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", text).strip()[:REPLY_CHARS]


def wait_of(header: str) -> float | None:
    """Retry-After: seconds, or a date. None when there is none, or none that can be read."""
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", header.strip()):
        return min(float(header), _MOST_WAIT_S)
    try:
        moment: datetime = parsedate_to_datetime(header)
    except (TypeError, ValueError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - clock.now()).total_seconds()), _MOST_WAIT_S)
