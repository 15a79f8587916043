"""What people read: sizes, times, shares, states."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import models

from mlops.core import clock, words

NOW = datetime(2026, 11, 21, 14, 5, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _frozen(monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: NOW)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234567, "1,234,567"),
        (0, "0"),
        (-3, "-3"),
        (0.123456, "0.1235"),
        (12345.6, "12,346"),
        (2.0, "2"),
        (None, "–"),
        (float("nan"), "–"),
        ("7", "–"),
    ],
)
def test_a_number_has_separators_and_four_significant_digits(value, text):
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(999, "999"), (1000, "1k"), (1234, "1.2k"), (5_600_000, "5.6M"), (2e9, "2B"), (None, "–")]
)
def test_a_compact_number(value, text):
    assert words.compact(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1_234_567, "1.2 MB"),
        (999_960, "1 MB"),
        (5 * 10**9, "5 GB"),
        (3 * 10**15, "3000 TB"),
        (None, "–"),
    ],
)
def test_bytes_are_decimal(value, text):
    assert words.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 ms"),
        (0.04, "<0.1 ms"),
        (2.13, "2.1 ms"),
        (640, "640 ms"),
        (999.9, "1 s"),
        (1840, "1.8 s"),
        (125_000, "2 min 5 s"),
        (None, "–"),
    ],
)
def test_milliseconds(value, text):
    assert words.ms(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.42, "420 ms"), (1.84, "1.8 s"), (60, "1 min"), (125, "2 min 5 s"), (7320, "2 h 2 min"), (float("inf"), "–")],
)
def test_seconds(value, text):
    assert words.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.384, "38 %"), (0.0041, "0.4 %"), (0.0001, "<0.1 %"), (0, "0 %"), (1, "100 %"), (0.05, "5 %"), (None, "–")],
)
def test_a_share_as_per_cent(value, text):
    assert words.pct(value) == text


def test_per_cent_with_asked_digits():
    assert words.pct(0.12345, 2) == "12.35 %"


@pytest.mark.parametrize(
    ("passed", "text"),
    [
        (timedelta(seconds=20), "just now"),
        (timedelta(seconds=60), "1 minute ago"),
        (timedelta(minutes=3), "3 minutes ago"),
        (timedelta(hours=25), "1 day ago"),
        (timedelta(days=70), "2 months ago"),
        (timedelta(days=-2), "in 2 days"),
        (timedelta(seconds=-5), "in a moment"),
    ],
)
def test_a_moment_seen_from_now(passed, text):
    assert words.ago_text(NOW - passed) == text


def test_ago_carries_the_exact_time():
    assert (
        words.ago(NOW - timedelta(minutes=3))
        == '<time datetime="2026-11-21T14:02:30+00:00" title="2026-11-21 14:02:30 UTC">3 minutes ago</time>'
    )
    assert words.ago(None) == "–"


def test_when_is_utc():
    assert words.when(NOW) == '<time datetime="2026-11-21T14:05:30+00:00">2026-11-21 14:05 UTC</time>'


@pytest.mark.parametrize(
    ("name", "text"), [("Ada Lovelace", "AL"), ("ada@example.org", "A"), ("Ada's workspace", "AW"), ("…", "?")]
)
def test_initials(name, text):
    assert words.initials(name) == text


class Colour(models.TextChoices):
    ROLLED_BACK = "rolled_back", "Taken back"


@pytest.mark.parametrize(
    ("state", "tone", "label"),
    [
        ("ready", "success", "Ready"),
        ("RUNNING", "running", "RUNNING"),
        ("drift", "danger", "Drifted"),
        ("snoozed", "warning", "Snoozed"),
        ("rolled_back", "danger", "Rolled back"),
        (Colour.ROLLED_BACK, "danger", "Taken back"),
        (None, "neutral", "Unknown"),
    ],
)
def test_a_state_has_a_tone_and_a_word(state, tone, label):
    assert (words.status_tone(state), words.status_label(state)) == (tone, label)


def test_a_section_is_open_by_the_start_of_its_url_name():
    assert words.section("model_detail", "model_ version_")
    assert not words.section("deployment_list", "model_ version_")
    assert not words.section(None, "model_")
