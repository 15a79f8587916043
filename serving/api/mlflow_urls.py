"""Below /api/v1/predict/{org}/{deployment}/: MLflow's scoring server, and why an answer was given."""

from django.urls import path

from serving.api import explain, mlflow

urlpatterns = [
    path("explain", explain.Explain.as_view(), name="predict_explain"),
    path("invocations", mlflow.Invocations.as_view(), name="mlflow_invocations"),
    path("ping", mlflow.Ping.as_view(), name="mlflow_ping"),
    path("health", mlflow.Ping.as_view(), name="mlflow_health"),
    path("version", mlflow.Version.as_view(), name="mlflow_version"),
]
