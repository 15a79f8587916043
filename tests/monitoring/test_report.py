"""Evidently for real, once: its process, its limits, and what is kept."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mlops.core import clock, errors
from monitoring import checks, reports
from monitoring.models import DriftCheck
from tests.monitoring.scene import HOUR


@pytest.mark.slow
def test_evidently_draws_the_report_in_a_process_of_its_own(scene):
    rows = scene.rows(500, amount=lambda value: value * 3)
    for row in rows[:50]:
        row["age"], row["colour"] = None, "purple"
    scene.log(rows)
    check = checks.run(scene.deployment, requested_by="Dan")
    assert reports.wanted(check)
    reports.make(check)
    check.refresh_from_db()
    html = b"".join(reports.read(check, packed=False)).decode()
    assert check.report_key.endswith(".html.gz")
    assert "<html" in html.lower()
    assert "amount" in html
    assert "prediction" in html
    assert "evidently" not in sys.modules  # only the other process has imported it


def test_a_column_without_values_on_one_side_is_left_out(scene):
    scene.log(scene.rows(400, age=lambda value: None))
    given = reports._input(checks.run(scene.deployment))
    assert "age" not in given["numeric"]
    assert "amount" in given["numeric"]
    assert len(given["current"]["amount"]) == 400


def test_a_large_window_is_sampled_over_its_whole_length(scene, monkeypatch):
    monkeypatch.setattr(reports, "SAMPLE_ROWS", 200)
    now = clock.floor(clock.now(), HOUR)
    for hours_ago in range(10):
        scene.log(scene.rows(100), now - hours_ago * HOUR)
    check = checks.run(scene.deployment)
    rows = reports.current_rows(check)
    assert 20 <= len(rows) <= 200
    given = reports._input(check)
    assert len(given["reference"]["amount"]) == 200


def test_a_process_that_fails_says_why_in_one_line(tmp_path):
    source = tmp_path / "in.json"
    source.write_text("{")
    with pytest.raises(errors.NotReady, match="could not draw the report: JSONDecodeError"):
        reports._draw(source, tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()


def test_a_process_that_does_not_end_is_killed(tmp_path, monkeypatch):
    sleeper = tmp_path / "python"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(reports.sys, "executable", str(sleeper))
    monkeypatch.setattr(reports, "TIMEOUT_S", 0.5)
    with pytest.raises(errors.NotReady, match="did not finish"):
        reports._draw(tmp_path / "in.json", tmp_path / "out.html")


def test_a_drift_that_goes_on_is_drawn_once_a_day_and_quiet_checks_never(scene, at):
    start = at(clock.now())
    scene.log(scene.rows(400))
    assert not reports.wanted(checks.run(scene.deployment))
    scene.log(scene.rows(2000, amount=lambda value: value * 3))
    first = checks.run(scene.deployment)
    assert reports.wanted(first)
    DriftCheck.objects.filter(pk=first.pk).update(report_key="kept")
    at(start + 2 * HOUR)
    second = checks.run(scene.deployment)
    assert second.verdict == "drift"
    assert not reports.wanted(second)


def test_old_checks_are_forgotten_and_quiet_ones_sooner(scene, at):
    start = at(clock.now())
    scene.log(scene.rows(400))
    quiet = checks.run(scene.deployment)
    asked = checks.run(scene.deployment, requested_by="Dan")
    assert reports.forget(start - 90 * 24 * HOUR, start + HOUR) == 1
    assert not DriftCheck.objects.filter(pk=quiet.pk).exists()
    assert reports.forget(start + HOUR, start + HOUR) == 1
    assert not DriftCheck.objects.filter(pk=asked.pk).exists()


def test_the_drawing_module_imports_no_django():
    code = "import sys, monitoring.evidently_report; print('django' in sys.modules, 'evidently' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
