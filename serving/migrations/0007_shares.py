from __future__ import annotations

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("serving", "0006_source_previews")]

    operations = []
