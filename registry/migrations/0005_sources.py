from __future__ import annotations

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("registry", "0004_environments")]

    operations = []
