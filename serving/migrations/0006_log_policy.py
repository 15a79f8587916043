from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("serving", "0005_one_index_of_batches")]

    operations = []
