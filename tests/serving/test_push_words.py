"""A push in words: what comes from a repository or a model is text, whatever stands in it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from markdown_it import MarkdownIt

from serving import push_words

HOSTILE = (
    "@acme/security", "[click](https://evil.example)", "https://evil.example/x", "www.evil.example", "<script>alert(1)</script>", "![x](http://e/x.png)",
    "`@mallory`", "a|b|@mallory", "#1 GH-1", "</details>", "-->", "```\n@mallory", "<img src=x>", "mail@evil.example", "\u202eetnurb", "~~~\nx",
)  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("write", [push_words.code, push_words.prose])
def test_what_comes_from_outside_is_only_text(name: str, write: Callable[[str], str]) -> None:
    rendered = MarkdownIt("gfm-like", {"linkify": False, "html": True}).render(
        f"| a |\n|---|\n| {write(name)} |\n\n{write(name)}\n"
    )
    assert not re.search(r"<(?!/?(table|thead|tbody|tr|th|td|p|code|em)\b)", rendered), rendered
    assert rendered.count("<td>") == 1
    outside = re.sub(r"<code>.*?</code>", "", rendered)
    assert not re.search(r"@\w|#\d|://|www\.|GH-\d", outside), rendered
    assert "\u202e" not in rendered
