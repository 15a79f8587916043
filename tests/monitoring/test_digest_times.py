"""Whole local days and weeks, also where clocks are put forward and back."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.digest_times import DAILY, WEEKLY, Times, following, latest

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Kiritimati",
         "Pacific/Honolulu", "America/Havana", "Africa/Cairo", "Pacific/Apia")  # fmt: skip
times = st.builds(
    Times,
    st.sampled_from((DAILY, WEEKLY)),
    st.sampled_from(ZONES).map(ZoneInfo),
    st.integers(0, 23),
    st.integers(0, 6),
)
moments = st.datetimes(datetime(2009, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  given their zone here


@given(times, moments)
def test_a_period_is_whole_local_days_that_are_over(chosen: Times, now: datetime) -> None:
    period = latest(chosen, now)
    assert period.since < period.until <= period.due <= now < following(chosen, now)
    end = period.until.astimezone(chosen.zone)
    assert end.date().isoformat() == period.name
    begin = period.since.astimezone(chosen.zone).date()
    assert end.date() - begin == timedelta(days=chosen.days)
    if chosen.frequency == WEEKLY:
        assert end.weekday() == chosen.weekday


@given(times, moments)
def test_periods_follow_each_other_without_gap_or_overlap(chosen: Times, now: datetime) -> None:
    period = latest(chosen, now)
    after = latest(chosen, following(chosen, now))
    assert after.since == period.until
    assert after.name > period.name


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [("Europe/Berlin", "2026-03-30", 23), ("Europe/Berlin", "2026-10-26", 25), ("Australia/Lord_Howe", "2026-10-05", 23.5)],
)  # fmt: skip
def test_a_day_on_which_clocks_change_is_one_day(zone: str, day: str, hours: float) -> None:
    chosen = Times(DAILY, ZoneInfo(zone))
    noon = datetime.combine(date.fromisoformat(day), datetime.min.time(), ZoneInfo(zone)) + timedelta(hours=12)
    period = latest(chosen, noon.astimezone(UTC))
    assert period.name == day
    assert period.until - period.since == timedelta(hours=hours)


@pytest.mark.parametrize(("hour", "minutes"), [(2, 0), (3, 0)])
def test_an_hour_that_the_clock_leaves_out_is_the_next(hour: int, minutes: int) -> None:
    chosen = Times(DAILY, ZoneInfo("Europe/Berlin"), hour=hour)
    due = latest(chosen, datetime(2026, 3, 29, 12, tzinfo=UTC)).due
    assert due == datetime(2026, 3, 29, 1, minutes, tzinfo=UTC)  # 03:00, as 02:00 does not come


def test_an_hour_that_comes_twice_is_the_first() -> None:
    chosen = Times(DAILY, ZoneInfo("Europe/Berlin"), hour=2)
    assert latest(chosen, datetime(2026, 10, 25, 12, tzinfo=UTC)).due == datetime(2026, 10, 25, 0, 0, tzinfo=UTC)
