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
activity adjustments alarm alert-circle alert-triangle api archive arrow-back-up arrow-down arrow-left arrow-right
arrow-up arrows-exchange arrows-split at ban bell bell-off binary-tree bolt book box braces brain brand-docker
brand-github brand-python bucket building bulb calculator calendar certificate chart-area chart-bar chart-dots
chart-histogram chart-line chart-pie check checklist chevron-down chevron-left chevron-right chevron-up circle
circle-check circle-dashed circle-dot circle-minus circle-plus circle-x clipboard-text clock cloud cloud-download
cloud-upload code columns copy cpu cube dashboard database device-desktop device-floppy dots download edit exchange
external-link eye eye-off file file-analytics file-code file-description file-download file-export file-import
file-text file-upload file-x filter fingerprint flag flame flask folder folder-plus gauge git-branch git-commit
git-compare git-pull-request hash heart-rate-monitor heartbeat help-circle history home hourglass hourglass-high id
inbox info-circle key layers-intersect link list list-check list-details loader-2 lock lock-check lock-open login
logout mail mail-forward mail-opened math-function menu-2 message message-circle minus moon notebook package photo pin
pinned player-pause player-play player-stop plug plus point power progress puzzle question-mark refresh reload report
report-analytics report-search robot rocket rotate route ruler scale scan schema search send server server-2
server-off settings share shield shield-check shield-lock shield-off shield-x signature sparkles stack-2 star
stethoscope sun table tag tags target terminal terminal-2 test-pipe test-pipe-2 thumb-up timeline tool topology-star
transform trash trending-down trending-up trophy unlink upload user user-check user-circle user-off user-plus user-x
users versions wand wave-sine wave-square webhook wifi-off world world-upload x zoom-question
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
