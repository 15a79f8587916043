"""The icons the pages may use, and the one command that builds their sprite.

``python -m mlops.core.icons FOLDER`` reads the outline icons of an unpacked ``@tabler/icons`` package (its ``icons/outline``)
and writes the sprite. A new icon is a name here, in alphabetical order, and one run of that command.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

SPRITE = "vendor/tabler-icons-3.51.0/sprite.svg"  # below static/
_NAMES = """
activity alert-circle alert-triangle api archive arrow-back-up arrow-down arrow-left arrow-right arrow-up ban bell bell-off
bolt book box brand-github brand-python bucket building bulb calendar chart-bar chart-histogram chart-line check checklist
chevron-down chevron-right chevron-up circle-check circle-dashed circle-dot circle-x clipboard-text clock cloud-upload code
copy cpu dashboard database device-desktop device-floppy dots download edit external-link eye eye-off file file-code
file-text filter flag fingerprint flask folder git-branch git-commit git-compare hash help-circle history home hourglass
info-circle key layers-intersect link list list-check loader-2 lock lock-open login logout mail mail-opened menu-2 minus moon
notebook package player-pause player-play player-stop plug plus point refresh robot rocket rotate scale scan search
send server settings shield shield-check shield-lock shield-off sparkles stack-2 star sun table tag target terminal-2
test-pipe tool transform trash trending-down trending-up upload user user-circle user-plus users wand wave-sine webhook
world x zoom-question
"""
NAMES = tuple(_NAMES.split())
_SHAPES = re.compile(r"<svg\b[^>]*>(.*)</svg>", re.DOTALL)
_EMPTY_FRAME = re.compile(r'\s*<path stroke="none" d="M0 0h24v24H0z" fill="none"\s*/>')


def sprite(folder: Path) -> str:
    """One SVG with a ``<symbol>`` for every name. Raises FileNotFoundError for a name the package does not have."""
    symbols = []
    for name in NAMES:
        found = _SHAPES.search((folder / f"{name}.svg").read_text())
        if found is None:
            raise ValueError(f"{name}.svg in {folder} is not an SVG file.")
        shapes = " ".join(_EMPTY_FRAME.sub("", found[1]).split())
        symbols.append(f'<symbol id="{name}" viewBox="0 0 24 24">{shapes}</symbol>')
    head = '<svg xmlns="http://www.w3.org/2000/svg" fill="none" stroke="currentColor" stroke-linecap="round" stroke-linejoin="round">'
    return "\n".join([head, *symbols, "</svg>\n"])


if __name__ == "__main__":
    target = Path(__file__).resolve().parents[2] / "static" / SPRITE
    target.write_text(sprite(Path(sys.argv[1])))
