"""Forms of connected repositories. The service judges what was typed."""

from __future__ import annotations

from typing import Any

from django import forms

from registry.models import Source

_PLAIN = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
CREDENTIALS = ("token", "token_user", "app_id", "installation_id", "app_key")


def _text(label: str, most: int, help_text: str = "", *, required: bool = False, **more: Any) -> forms.CharField:
    widget = forms.TextInput(attrs={**_PLAIN, **more.pop("attrs", {})})
    return forms.CharField(label=label, max_length=most, help_text=help_text, required=required, widget=widget, **more)


class _Credentials(forms.Form):
    token = forms.CharField(
        label="Token",
        max_length=1000,
        required=False,
        widget=forms.PasswordInput(attrs=_PLAIN),
        help_text='GitHub: a fine-grained token of this repository with "Contents: read", "Commit statuses: write" and "Pull requests: write". A public repository is fetched without one.',
    )
    token_user = _text("User of the token", 100, "x-access-token for GitHub, oauth2 for GitLab.")
    app_id = _text("GitHub App: id", 40, "Instead of a token.")
    installation_id = _text("GitHub App: installation id", 40)
    app_key = forms.CharField(
        label="GitHub App: private key",
        max_length=20_000,
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={**_PLAIN, "rows": 3, "class": "mono"}),
    )

    def credentials(self) -> dict[str, str]:
        """Those that were typed."""
        return {name: self.cleaned_data[name] for name in CREDENTIALS if self.cleaned_data.get(name)}


class ConnectForm(_Credentials):
    field_order = ("clone_url", "kind", "model", "deployment", "branch", "folder", "previews", *CREDENTIALS)

    clone_url = _text(
        "Repository", 300, "Its https address.", required=True, attrs={"placeholder": "https://github.com/acme/churn"}
    )
    kind = forms.ChoiceField(label="Server", choices=Source.Kind.choices)
    model = _text("Model name", 63, "Made with the first push when it is new.", required=True)
    deployment = _text("Deploy as", 63, "What the production branch makes live. Empty: the model's name.")
    branch = _text("Production branch", 200, initial="main", required=True)
    folder = _text("Folder", 300, "Of the model within the repository. Empty: the whole repository.")
    previews = forms.BooleanField(
        label="Every other branch and pull request gets a preview", required=False, initial=True
    )


class SourceForm(_Credentials):
    field_order = ("branch", "previews", *CREDENTIALS, "forget")

    branch = _text("Production branch", 200, required=True)
    previews = forms.BooleanField(label="Every other branch and pull request gets a preview", required=False)
    forget = forms.BooleanField(label="Forget the token and the App's key", required=False)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["token"].help_text += " Empty: the one there is stays."

    def changes(self) -> dict[str, Any]:
        """For ``services.sources.change``."""
        kept = {"branch": self.cleaned_data["branch"], "previews": self.cleaned_data["previews"]}
        if self.cleaned_data["forget"]:
            return kept | {"token": "", "app_id": "", "installation_id": "", "app_key": ""}
        return kept | self.credentials()
