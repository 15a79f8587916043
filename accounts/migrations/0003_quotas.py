from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0002_limits")]

    operations = [
        migrations.AddField(
            model_name="organization",
            name="storage_limit_bytes",
            field=models.PositiveBigIntegerField(
                blank=True,
                help_text="Files of its models and data, each content once, and uploads under way; 0: no limit; empty: the server's default.",
                null=True,
                verbose_name="storage in bytes",
            ),
        ),
        migrations.AddField(
            model_name="organization",
            name="version_limit",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="0: no limit; empty: the server's default.",
                null=True,
                verbose_name="model versions",
            ),
        ),
    ]
