"""Every recurring job on one page. ``manage.py worker`` writes these rows before it starts the queue."""

from __future__ import annotations

from django_q.models import Schedule

# name -> (function, minutes between runs). django-q2 looks at schedules every 30 seconds.
SCHEDULES: dict[str, tuple[str, int]] = {
    "queue beat": ("mlops.jobs.worker_beat.queue_beat", 1),
    "check drift": ("monitoring.jobs.schedule_drift_checks", 60),
    "count predictions": ("monitoring.jobs.count_predictions", 1),
    "merge counts to days": ("monitoring.jobs.merge_counts", 60),
    "count feedback": ("monitoring.quality.jobs.count_feedback", 1),
    "look at quality": ("monitoring.quality.jobs.look_at_quality", 60),
    "evaluate alert rules": ("monitoring.jobs.schedule_rules", 1),
    "deliver notifications": ("monitoring.jobs.deliver_notifications", 1),
    "send digests": ("monitoring.jobs.send_digests", 15),
    "retrain": ("monitoring.jobs.retrain_due", 1),
    "forget trainings": ("monitoring.jobs.forget_trainings", 24 * 60),
    "move rollouts": ("serving.jobs.move_rollouts", 1),
    "report pushes again": ("serving.jobs.report_again", 1),
    "keep earlier versions warm": ("serving.jobs.keep_warm", 1),
    "forget expired sessions and answers": ("accounts.jobs.forget_expired", 24 * 60),
    "forget old checks": ("monitoring.jobs.forget_checks", 24 * 60),
    "forget old notices": ("monitoring.jobs.forget_notices", 24 * 60),
    "forget old feedback": ("monitoring.quality.jobs.forget_quality", 24 * 60),
    "forget old predictions": ("serving.jobs.forget_predictions", 24 * 60),
    "sample predictions": ("serving.jobs.sample_predictions", 60),
    "forget old batch runs": ("serving.jobs.forget_batches", 24 * 60),
    "forget uploads": ("registry.jobs.forget_uploads", 60),
    "sweep the storage": ("registry.jobs.sweep_storage", 24 * 60),
    "clear fetches of git": ("registry.jobs.clear_git", 60),
    "forget old files": ("registry.jobs.forget_artifacts", 24 * 60),
    "forget old dependency sets": ("registry.jobs.forget_environments", 24 * 60),
}


def install() -> None:
    """Make the schedule table equal to this page; keeps the next run of entries that did not change."""
    Schedule.objects.exclude(name__in=SCHEDULES).delete()
    for name, (function, minutes) in SCHEDULES.items():
        Schedule.objects.update_or_create(
            name=name, defaults={"func": function, "schedule_type": Schedule.MINUTES, "minutes": minutes, "repeats": -1}
        )
