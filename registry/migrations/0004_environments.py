from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

import mlops.core.clock


class Migration(migrations.Migration):
    dependencies = [("registry", "0003_contents")]

    operations = [
        migrations.CreateModel(
            name="Environment",
            fields=[
                ("id", models.CharField(help_text="sha256 of requirements, Python, platform and index.", max_length=64, primary_key=True, serialize=False)),
                ("requirements", models.TextField(help_text="Our own rewriting of what was uploaded.")),
                ("python", models.CharField(max_length=20)),
                ("platform", models.CharField(max_length=60)),
                ("index_name", models.TextField(blank=True)),
                ("status", models.CharField(choices=[("queued", "Queued"), ("building", "Building"), ("ready", "Ready"), ("failed", "Failed")], default="queued", max_length=10)),
                ("builder", models.UUIDField(blank=True, help_text="Which process builds it; it beats.", null=True)),
                ("beat_at", models.DateTimeField(blank=True, null=True)),
                ("log", models.TextField(blank=True)),
                ("lock", models.TextField(blank=True)),
                ("packages", models.JSONField(default=list, help_text="[{name, version}] as locked.")),
                ("size_bytes", models.BigIntegerField(blank=True, null=True)),
                ("digest", models.CharField(blank=True, help_text="sha256 of the list of its files.", max_length=64)),
                ("seconds", models.FloatField(blank=True, null=True)),
                ("error", models.JSONField(blank=True, null=True)),
                ("created_at", models.DateTimeField(default=mlops.core.clock.now, editable=False)),
                ("built_at", models.DateTimeField(blank=True, null=True)),
                ("last_used_at", models.DateTimeField(default=mlops.core.clock.now)),
            ],
            options={
                "ordering": ("-created_at",),
                "constraints": [
                    models.CheckConstraint(condition=models.Q(models.Q(("status", "ready"), _negated=True), models.Q(models.Q(("lock", ""), _negated=True), models.Q(("digest", ""), _negated=True)), _connector="OR"), name="environment_ready_is_locked"),
                    models.CheckConstraint(condition=models.Q(models.Q(("status", "failed"), _negated=True), ("error__isnull", False), _connector="OR"), name="environment_failed_says_why"),
                ],
            },
        ),
        migrations.AddField(
            model_name="modelversion",
            name="environment",
            field=models.ForeignKey(blank=True, help_text="The dependency set it runs with, instead of Slipway's own libraries.", null=True, on_delete=django.db.models.deletion.PROTECT, related_name="versions", to="registry.environment"),
        ),
        migrations.AddField(
            model_name="modelversion",
            name="compatibility",
            field=models.JSONField(blank=True, help_text="Will it run here: [{name, needs, here, level, message, hint}].", null=True),
        ),
    ]  # fmt: skip
