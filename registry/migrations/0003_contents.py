from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("registry", "0002_acceleration")]

    operations = [
        migrations.AddField(
            model_name="modelversion",
            name="contents",
            field=models.JSONField(
                blank=True,
                help_text="Of an archive: its members with their hashes, and what each of them is for.",
                null=True,
            ),
        ),
    ]
