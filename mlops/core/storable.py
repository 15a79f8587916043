"""Texts and JSON that both databases keep, of what clients, models and files may say."""

from __future__ import annotations

import re
import sys
from typing import Any

_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


def storable(value: Any) -> Any:
    """The same without NUL, halves of characters and numbers beyond a float's: PostgreSQL refuses them."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, (list, tuple)):
        return [storable(each) for each in value]
    if isinstance(value, dict):
        return {storable(key): storable(each) for key, each in value.items()}
    if isinstance(value, (int, float)) and not abs(value) <= sys.float_info.max:
        return None
    return value
