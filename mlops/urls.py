"""Every address of the product."""

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.decorators import login_required
from django.urls import include, path
from django.views.generic import RedirectView

from accounts.admin_site import secure
from mlops.core.kit import kit

secure(admin.site)

handler400 = "mlops.core.problems.handler400"
handler403 = "mlops.core.problems.handler403"
handler404 = "mlops.core.problems.handler404"
handler500 = "mlops.core.problems.handler500"

urlpatterns = [
    path(
        "api/v1/", include("mlops.api")
    ),  # first: predictions are most of all requests, and patterns are tried in order
    path("", include("serving.api.protocol_urls")),
    path("", include("mlops.health")),
    path("", include("registry.wellknown")),
    path("", include("registry.api.hooks")),
    path("admin/", admin.site.urls),
    path("accounts/", include("allauth.urls")),
    path("favicon.ico", RedirectView.as_view(url=f"{settings.STATIC_URL}favicon.svg", permanent=True), name="favicon"),
    path("", include("accounts.urls")),
    *([path("ui/kit/", login_required(kit), name="ui_kit")] if settings.DEBUG else []),
    path("", include("mlops.home")),
    path("<slug:org>/", include("accounts.org_urls")),
    path("<slug:org>/", include("registry.urls")),
    path("<slug:org>/", include("serving.urls")),
    path("<slug:org>/", include("monitoring.urls")),
]
