import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import mlops.core.clock


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0001_initial"),
        ("serving", "0005_one_index_of_batches"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="RedactionKey",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("sealed", models.TextField(help_text="accounts.sealing")),
                (
                    "organization",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.organization"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="LogArchive",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("day", models.DateField()),
                ("part", models.PositiveIntegerField(default=1, help_text="A busy day has several files.")),
                ("first_id", models.UUIDField()),
                ("last_id", models.UUIDField()),
                ("rows", models.PositiveBigIntegerField()),
                ("size_bytes", models.BigIntegerField()),
                ("sha256", models.CharField(max_length=64)),
                ("key", models.CharField(max_length=300)),
                ("created_at", models.DateTimeField(default=mlops.core.clock.now, editable=False)),
                ("rewritten_at", models.DateTimeField(help_text="When rows were last deleted from it.", null=True)),
                (
                    "deployment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="log_archives",
                        to="serving.deployment",
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.organization"
                    ),
                ),
            ],
            options={
                "verbose_name": "archive of the log",
                "ordering": ("-day", "-part"),
                "indexes": [models.Index(fields=["key"], name="log_archive_by_key")],
                "constraints": [models.UniqueConstraint(fields=("deployment", "day", "part"), name="log_archive_once")],
            },
        ),
        migrations.CreateModel(
            name="LogDeletion",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "stage",
                    models.CharField(
                        choices=[
                            ("count", "Counting"),
                            ("confirm", "Waits for confirmation"),
                            ("delete", "Deleting"),
                            ("done", "Done"),
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                        ],
                        default="count",
                        max_length=10,
                    ),
                ),
                ("sealed", models.TextField(blank=True, help_text="The criteria, sealed; empty when it has ended.")),
                (
                    "told",
                    models.JSONField(
                        default=dict, help_text="The criteria without values: column, hash of the value, ids, times."
                    ),
                ),
                ("cursor", models.JSONField(default=dict, help_text="Where the work goes on.")),
                ("found", models.JSONField(default=dict, help_text="Counts of the preview.")),
                ("deleted", models.JSONField(default=dict, help_text="Counts of what was deleted.")),
                ("certificate", models.TextField(blank=True)),
                ("error", models.JSONField(null=True)),
                ("actor", models.CharField(max_length=200)),
                ("created_at", models.DateTimeField(default=mlops.core.clock.now, editable=False)),
                ("finished_at", models.DateTimeField(null=True)),
                (
                    "created_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "deployment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="log_deletions",
                        to="serving.deployment",
                    ),
                ),
                (
                    "job",
                    models.ForeignKey(
                        null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="+", to="jobs.job"
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.organization"
                    ),
                ),
            ],
            options={
                "verbose_name": "deletion from the log",
                "ordering": ("-pk",),
                "indexes": [models.Index(fields=["deployment", "-id"], name="log_deletion_recent")],
            },
        ),
        migrations.CreateModel(
            name="LogPolicy",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "retention_days",
                    models.PositiveSmallIntegerField(help_text="Of raw rows; none: the server's default.", null=True),
                ),
                (
                    "sample_share",
                    models.FloatField(default=1.0, help_text="Of answered rows that are kept raw, 0 to 1."),
                ),
                ("redactions", models.JSONField(default=dict, help_text='{"column": "remove" or "hash"}')),
                (
                    "archive",
                    models.BooleanField(
                        default=False, help_text="Rows past their retention are kept as Parquet files."
                    ),
                ),
                ("archive_days", models.PositiveIntegerField(help_text="Of archives; none: for ever.", null=True)),
                (
                    "archive_problem",
                    models.CharField(blank=True, help_text="Why rows wait for their archive.", max_length=500),
                ),
                (
                    "sampled_batch",
                    models.BigIntegerField(default=0, help_text="Shipped batches up to this one have been sampled."),
                ),
                ("changed_at", models.DateTimeField(default=mlops.core.clock.now, editable=False)),
                (
                    "deployment",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE, related_name="log_policy", to="serving.deployment"
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.organization"
                    ),
                ),
            ],
            options={
                "verbose_name": "log policy",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("sample_share__gte", 0), ("sample_share__lte", 1)),
                        name="log_policy_share_is_a_share",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("retention_days", None), ("retention_days__range", (1, 365)), _connector="OR"
                        ),
                        name="log_policy_retention_in_range",
                    ),
                ],
            },
        ),
    ]
