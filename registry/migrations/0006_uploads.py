from __future__ import annotations

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import mlops.core.clock
import mlops.core.ids


def count_what_is_there(apps, schema_editor):
    """Files of before get their rows, so that quotas count them. They stay where they are, under their own keys."""
    Blob = apps.get_model("registry", "Blob")
    version, dataset = apps.get_model("registry", "ModelVersion"), apps.get_model("registry", "Dataset")

    def rows():
        for row in version.objects.order_by("pk").iterator():
            yield row, row.file_key, row.sha256, row.size_bytes
            if row.accelerated_key:
                yield row, row.accelerated_key, row.accelerated_sha256, row.accelerated_bytes or 0
        for row in dataset.objects.order_by("pk").iterator():
            yield row, row.file_key, row.sha256, row.size_bytes
            if row.columns_key:
                yield row, row.columns_key, "", 0  # its size was never written down

    found = {
        key: Blob(organization_id=row.organization_id, key=key, sha256=sha256, size_bytes=size, kept_at=row.created_at)
        for row, key, sha256, size in rows()
    }
    Blob.objects.bulk_create(found.values(), batch_size=500)


class Migration(migrations.Migration):
    dependencies = [
        ("registry", "0005_sources"),
        ("accounts", "0003_quotas"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Blob",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.CharField(max_length=300, unique=True)),
                ("sha256", models.CharField(max_length=64)),
                ("size_bytes", models.BigIntegerField()),
                (
                    "kept_at",
                    models.DateTimeField(
                        default=mlops.core.clock.now,
                        help_text="When it was last put there: young ones are never swept.",
                    ),
                ),
                ("lease", models.UUIDField(help_text="Of the push that put it there last.", null=True)),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.organization"
                    ),
                ),
            ],
            options={
                "ordering": ("pk",),
                "indexes": [
                    models.Index(fields=["organization", "sha256"], name="blob_by_hash"),
                    models.Index(fields=["kept_at"], name="blob_by_age"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Upload",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mlops.core.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "purpose",
                    models.CharField(
                        choices=[("file", "Model"), ("sample", "Sample"), ("reference", "Reference")], max_length=10
                    ),
                ),
                ("filename", models.CharField(max_length=200)),
                ("length", models.BigIntegerField(help_text="Bytes of the whole file.")),
                ("offset", models.BigIntegerField(default=0, help_text="Bytes that arrived and are safe.")),
                ("sha256", models.CharField(blank=True, help_text="Once whole.", max_length=64)),
                ("key", models.CharField(help_text="Where its bytes lie in the storage.", max_length=300)),
                (
                    "parts",
                    models.JSONField(
                        default=dict, help_text="How far the storage got with them: see mlops.core.partial."
                    ),
                ),
                (
                    "hash_state",
                    models.CharField(
                        blank=True, help_text="SHA-256 of the first offset bytes, to go on with.", max_length=224
                    ),
                ),
                ("lock", models.UUIDField(help_text="Of the call that is writing now.", null=True)),
                ("locked_at", models.DateTimeField(null=True)),
                ("created_at", models.DateTimeField(default=mlops.core.clock.now, editable=False)),
                ("expires_at", models.DateTimeField()),
                (
                    "used_at",
                    models.DateTimeField(help_text="When a push took it: it can be used once.", null=True),
                ),
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
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.organization"
                    ),
                ),
            ],
            options={
                "ordering": ("-pk",),
                "indexes": [models.Index(fields=["expires_at"], name="upload_by_expiry")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("offset__lte", models.F("length"))), name="upload_not_over_length"
                    )
                ],
            },
        ),
        migrations.RunPython(count_what_is_there, migrations.RunPython.noop, elidable=True),
    ]
