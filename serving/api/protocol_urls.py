"""/v2 and /v1: once for the organisation of the key, once below /{org}. Neither word can be an organisation's (accounts/slugs.py)."""

from django.urls import URLPattern, path, re_path, register_converter

from serving.api import kserve, v2


class _Organization:
    """A first part of the path that can be an organisation's; /api/v1 is ours."""

    regex = "(?!api/)[-a-z0-9]+"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(_Organization, "organization")


def _patterns(place: str, prefix: str) -> list[URLPattern]:
    """``place``: what stands before v2 in the path; ``prefix``: before the URL names."""
    model = f"{place}v2/models/<str:model>"
    version = f"{model}/versions/<str:version>"
    repository = f"{place}v2/repository"
    return [
        path(f"{model}/infer", v2.Infer.as_view(), name=f"{prefix}v2_infer"),
        path(f"{version}/infer", v2.Infer.as_view(), name=f"{prefix}v2_version_infer"),
        # Both: no client of this protocol follows a redirect between the two.
        path(f"{place}v2", v2.Server.as_view(), name=f"{prefix}v2_server"),
        path(f"{place}v2/", v2.Server.as_view(), name=f"{prefix}v2_server_slash"),
        path(f"{place}v2/health/live", v2.Live.as_view(), name=f"{prefix}v2_live"),
        path(f"{place}v2/health/ready", v2.Ready.as_view(), name=f"{prefix}v2_ready"),
        path(f"{place}v2/models", v2.Models.as_view(), name=f"{prefix}v2_models"),
        path(model, v2.Model.as_view(), name=f"{prefix}v2_model"),
        path(f"{model}/ready", v2.ModelReady.as_view(), name=f"{prefix}v2_model_ready"),
        path(version, v2.Model.as_view(), name=f"{prefix}v2_version"),
        path(f"{version}/ready", v2.ModelReady.as_view(), name=f"{prefix}v2_version_ready"),
        path(f"{repository}/index", v2.Index.as_view(), name=f"{prefix}v2_repository_index"),
        path(f"{repository}/models/<str:model>/load", v2.Load.as_view(), name=f"{prefix}v2_repository_load"),
        path(f"{repository}/models/<str:model>/unload", v2.Unload.as_view(), name=f"{prefix}v2_repository_unload"),
        path(f"{place}v1/models/<str:model>:predict", kserve.Predict.as_view(), name=f"{prefix}v1_predict"),
        path(f"{place}v1/models/<str:model>:explain", kserve.Explain.as_view(), name=f"{prefix}v1_explain"),
        path(f"{place}v1/models", kserve.Models.as_view(), name=f"{prefix}v1_models"),
        path(f"{place}v1/models/<str:model>", kserve.Model.as_view(), name=f"{prefix}v1_model"),
    ]


urlpatterns = [
    *_patterns("", ""),
    *_patterns("<organization:org>/", "org_"),
    re_path(r"^(?:(?!api/)[-a-z0-9]+/)?v[12](?:/.*)?$", v2.Unknown.as_view(), name="protocol_unknown"),
]
