"""Django admin's own login would skip the second factor: every sign-in goes through allauth's."""

from allauth.account.decorators import secure_admin_login
from django.contrib.admin import AdminSite


def secure(site: AdminSite) -> None:
    site.login = secure_admin_login(site.login)
