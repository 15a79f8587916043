from django.urls import path

from registry.api import sources

urlpatterns = [
    path("sources", sources.SourceList.as_view(), name="api_source_list"),
    path("sources/<uuid:source_id>", sources.SourceDetail.as_view(), name="api_source_detail"),
    path("sources/<uuid:source_id>/rotate", sources.SourceRotate.as_view(), name="api_source_rotate"),
    path("sources/<uuid:source_id>/pushes", sources.SourcePushList.as_view(), name="api_source_pushes"),
    path("sources/<uuid:source_id>/deploy", sources.SourceDeploy.as_view(), name="api_source_deploy"),
]
