from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("django_idempotency", "0001_initial"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="idempotencyrecord",
            options={
                "default_permissions": ("view",),
                "permissions": (
                    ("view_bodies_idempotencyrecord", "Can view payloads and bodies of idempotency records"),
                    ("expire_idempotencyrecord", "Can expire idempotency records"),
                    ("extend_idempotencyrecord", "Can extend the expiry of idempotency records"),
                    ("purge_idempotencyrecord", "Can purge expired idempotency records"),
                    ("delete_idempotencyrecord", "Can delete idempotency records: operations may run again"),
                    ("export_idempotencyrecord", "Can export metadata of idempotency records"),
                ),
                "verbose_name": "idempotency record",
                "verbose_name_plural": "idempotency records",
            },
        ),
        migrations.AddIndex(
            model_name="idempotencyrecord",
            index=models.Index(
                condition=models.Q(("completed_at__isnull", True)),
                fields=["completed_at", "expires_at"],
                name="idempotency_unfinished",
            ),
        ),
    ]
