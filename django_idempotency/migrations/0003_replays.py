from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("django_idempotency", "0002_operators"),
    ]

    operations = [
        migrations.CreateModel(
            name="IdempotencyHour",
            fields=[
                ("hour", models.DateTimeField(primary_key=True, serialize=False, verbose_name="hour")),
                ("replays", models.PositiveBigIntegerField(default=0, verbose_name="replays")),
                ("conflicts", models.PositiveBigIntegerField(default=0, verbose_name="conflicts")),
            ],
            options={
                "verbose_name": "hour of replays",
                "verbose_name_plural": "hours of replays",
                "default_permissions": (),
            },
        ),
        migrations.AddField(
            model_name="idempotencyrecord",
            name="last_replayed_at",
            field=models.DateTimeField(null=True, verbose_name="last replay"),
        ),
        migrations.AddField(
            model_name="idempotencyrecord",
            name="replays",
            field=models.PositiveIntegerField(db_default=0, default=0, verbose_name="replays"),
        ),
    ]
