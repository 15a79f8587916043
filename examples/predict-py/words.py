"""A module beside predict.py: it is imported as on your own machine."""

import re


def split(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())
