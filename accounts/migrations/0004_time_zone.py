from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0003_quotas")]

    operations = [
        migrations.AddField(
            model_name="user",
            name="time_zone",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="IANA name; empty until a browser has said it.",
                max_length=64,
            ),
        ),
    ]
