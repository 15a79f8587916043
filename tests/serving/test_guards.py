"""The tests a rollout decides by: right in their values, calm under chance, quick where something is wrong."""

from __future__ import annotations

import random

import pytest
from scipy import stats

from serving import guards, traffic
from serving.guards import Arm, Limits

LIMITS = Limits(error_increase=0.02, latency_factor=1.5, shift=0.1, min_requests=100)


def _arm(requests: int, errors: int = 0, latency_ms: float = 4.0, draw: random.Random | None = None) -> Arm:
    arm = Arm(requests, errors)
    for _ in range(requests - errors):
        arm.latency[traffic.bin_of(latency_ms * (draw.lognormvariate(0, 0.4) if draw else 1.0))] += 1
    return arm


@pytest.mark.parametrize(
    ("statistic", "freedom"), [(0.0, 1), (3.84, 1), (20.0, 1), (1.0, 7), (40.0, 7), (150.0, 60), (30.0, 60)]
)
def test_chi_square_agrees_with_scipy(statistic: float, freedom: int) -> None:
    assert guards.chi2_tail(statistic, freedom) == pytest.approx(stats.chi2.sf(statistic, freedom), rel=1e-9)


@pytest.mark.parametrize(
    ("hits", "count", "share"), [(0, 10, 0.1), (3, 10, 0.1), (30, 100, 0.05), (80, 1000, 0.05), (10, 10, 0.5)]
)
def test_the_binomial_tail_agrees_with_scipy(hits: int, count: int, share: float) -> None:
    assert guards.binomial_tail(hits, count, share) == pytest.approx(stats.binom.sf(hits - 1, count, share), rel=1e-9)


@pytest.mark.parametrize(
    "table", [(5, 10, 0, 500), (0, 10, 3, 100), (7, 100, 9, 900), (300, 1000, 2000, 9000), (10, 10, 10, 10)]
)
def test_fishers_test_agrees_with_scipy(table: tuple[int, int, int, int]) -> None:
    a, n, b, m = table
    expected = stats.fisher_exact([[a, n - a], [b, m - b]], alternative="greater").pvalue
    assert guards.fisher(a, n, b, m) == pytest.approx(expected, rel=1e-6)


def test_kolmogorovs_test_is_near_scipys() -> None:
    draw = random.Random(1)
    for move in (0.0, 0.2, 0.5):
        ours, theirs = [draw.gauss(move, 1) for _ in range(400)], [draw.gauss(0, 1) for _ in range(900)]
        gap, p_value = guards.kolmogorov(ours, theirs)
        expected = stats.ks_2samp(ours, theirs)
        assert gap == pytest.approx(expected.statistic)
        assert p_value == pytest.approx(expected.pvalue, rel=0.25, abs=1e-12)


def test_under_chance_alone_the_levels_hold() -> None:
    draw = random.Random(7)
    mix, weights = ["a", "b", "c", "rare"], [70, 20, 9.5, 0.5]
    looks, alarms = 600, {"labels": 0, "numbers": 0, "errors": 0}
    for _ in range(looks):
        arms = []
        for rows in (150, 1500):
            arm = Arm(rows, sum(draw.random() < 0.05 for _ in range(rows)))
            for label in draw.choices(mix, weights, k=rows):
                guards.add_prediction(arm, label, numbers=False, draw=draw)
            for _ in range(rows):
                guards.add_prediction(arm, draw.gauss(0, 1), numbers=True, draw=draw)
            arms.append(arm)
        alarms["labels"] += guards.homogeneity(arms[0].labels, arms[1].labels) < 0.01
        alarms["numbers"] += guards.kolmogorov(arms[0].sample, arms[1].sample)[1] < 0.01
        alarms["errors"] += guards.fisher(arms[0].errors, 150, arms[1].errors, 1500) < 0.01
    assert all(count <= 14 for count in alarms.values()), alarms  # 6 expected; more than 14 has a chance below 1 in 500


def test_a_sound_candidate_passes_whatever_is_drawn() -> None:
    draw = random.Random(3)
    for _ in range(50):
        arms = [_arm(rows, 2, 4.0, draw) for rows in (200, 2000)]
        for arm in arms:
            for label in draw.choices(["yes", "no"], [30, 70], k=arm.requests):
                guards.add_prediction(arm, label, numbers=False, draw=draw)
        assert [check["state"] for check in guards.judge(*arms, LIMITS)] == ["ok", "ok", "ok"]


def test_a_broken_candidate_is_found_after_a_handful_of_requests() -> None:
    found = guards.judge(Arm(6, 6), _arm(600), LIMITS)[0]
    assert (found["name"], found["state"]) == ("errors", "failed")
    assert "100 % of its 6 requests failed" in found["sentence"]
    assert guards.judge(Arm(1, 1), _arm(600), LIMITS)[0]["state"] == "ok"  # one may be chance


def test_a_small_rise_of_errors_is_within_the_limit_however_certain() -> None:
    assert guards.judge(_arm(100_000, 1_500), _arm(100_000, 500), LIMITS)[0]["state"] == "ok"
    assert guards.judge(_arm(100_000, 3_000), _arm(100_000, 500), LIMITS)[0]["state"] == "failed"


def test_a_slow_candidate_is_found_and_a_slightly_slower_one_passes() -> None:
    draw = random.Random(5)
    champion = _arm(2000, 0, 20.0, draw)
    assert guards.judge(_arm(200, 0, 60.0, draw), champion, LIMITS)[1]["state"] == "failed"
    assert guards.judge(_arm(200, 0, 24.0, draw), champion, LIMITS)[1]["state"] == "ok"


def test_a_millisecond_is_no_reason() -> None:
    assert guards.judge(_arm(2000, 0, 3.0), _arm(2000, 0, 1.0), LIMITS)[1]["state"] == "ok"


@pytest.mark.parametrize(("share", "state"), [(0.30, "ok"), (0.36, "ok"), (0.55, "failed")])
def test_moved_labels_are_found_when_they_moved_far(share: float, state: str) -> None:
    draw, arms = random.Random(2), [_arm(400), _arm(4000)]
    for arm, chance in zip(arms, (share, 0.3), strict=True):
        for _ in range(arm.requests):
            guards.add_prediction(arm, "yes" if draw.random() < chance else "no", numbers=False, draw=draw)
    found = guards.judge(*arms, LIMITS)[2]
    assert found["state"] == state, found


@pytest.mark.parametrize(("move", "state"), [(0.0, "ok"), (1.0, "failed")])
def test_moved_numbers_are_found(move: float, state: str) -> None:
    draw, arms = random.Random(2), [_arm(400), _arm(4000)]
    for arm, by in zip(arms, (move, 0.0), strict=True):
        for _ in range(arm.requests):
            guards.add_prediction(arm, draw.gauss(by, 1), numbers=True, draw=draw)
    assert len(arms[1].sample) == guards.SAMPLE
    assert guards.judge(*arms, LIMITS)[2]["state"] == state


def test_too_few_requests_are_not_judged_but_for_errors() -> None:
    assert [check["state"] for check in guards.judge(_arm(50), _arm(1000), LIMITS)] == ["ok", "waiting", "waiting"]
    assert [check["state"] for check in guards.judge(Arm(), Arm(), LIMITS)] == ["waiting"] * 3


def test_what_cannot_be_compared_says_so() -> None:
    arms = [_arm(200), _arm(200)]
    for arm in arms:
        guards.add_prediction(arm, [[1, 2]], numbers=False, draw=random.Random(1))
        guards.add_prediction(arm, float("nan"), numbers=True, draw=random.Random(1))
    found = guards.judge(*arms, LIMITS)[2]
    assert (found["state"], arms[0].labels, arms[0].sample) == ("waiting", {}, [])


def test_thousands_of_labels_are_counted_together() -> None:
    arm = Arm()
    for number in range(5000):
        guards.add_prediction(arm, f"label {number}", numbers=False, draw=random.Random(1))
    assert len(arm.labels) == guards.LABELS + 1
    assert sum(arm.labels.values()) == 5000
