from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    name = "monitoring"

    def ready(self) -> None:
        from monitoring import log_care, watching
        from monitoring.models import RetrainingPolicy
        from registry.services import blobs

        watching.connect()
        blobs.refer(RetrainingPolicy, "bundle_key")
        log_care.connect()
