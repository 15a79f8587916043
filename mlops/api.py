"""The management and prediction API, version 1."""

from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

urlpatterns = [
    path("predict/<slug:org>/", include("serving.api.predict_urls")),
    path("predict/<slug:org>/<slug:deployment>/", include("serving.api.mlflow_urls")),
    path("predict/<slug:org>/<slug:deployment>/", include("monitoring.api.predict_urls")),
    path("schema/", SpectacularAPIView.as_view(), name="api_schema"),
    path("docs/", SpectacularSwaggerSplitView.as_view(url_name="api_schema"), name="api_docs"),
    path("auth/", include("accounts.api.auth_urls")),
    path("<slug:org>/", include("accounts.api.urls")),
    path("<slug:org>/", include("mlops.jobs.api_urls")),
    path("<slug:org>/", include("registry.api.urls")),
    path("<slug:org>/", include("registry.api.source_urls")),
    path("<slug:org>/", include("serving.api.urls")),
    path("<slug:org>/", include("monitoring.api.urls")),
]
