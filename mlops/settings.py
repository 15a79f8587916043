"""Every setting of Slipway, read once from the environment. A wrong value stops the start and says how to mend it.

The defaults are for one machine: SQLite, files under ``./var``, mails as files. Production sets SLIPWAY_ENV=production,
SLIPWAY_HOSTS, SLIPWAY_SECRET_KEY, DATABASE_URL and EMAIL_URL-like values (README, "Running it for real").
"""

from __future__ import annotations

import hashlib
import os
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from mlops.core import env
from mlops.runtime.limits import SANDBOXES

BASE_DIR = Path(__file__).resolve().parent.parent
VERSION = "0.1.0"

# --- Where we run -----------------------------------------------------------------------------------------------------
TESTING = env.flag("SLIPWAY_TESTING", default=False)
ENVIRONMENT = env.choice("SLIPWAY_ENV", "development", ("development", "production"))
PRODUCTION = ENVIRONMENT == "production"
DEBUG = env.flag("SLIPWAY_DEBUG", default=False)
VAR_DIR = Path(env.text("SLIPWAY_VAR", str(BASE_DIR / "var"))).resolve()
VAR_DIR.mkdir(parents=True, exist_ok=True)
BASE_URL = env.text("SLIPWAY_URL", "http://127.0.0.1:8000").rstrip("/")  # links in mails and snippets

_LOOPBACK = ["127.0.0.1", "localhost", "[::1]"]
ALLOWED_HOSTS = env.words("SLIPWAY_HOSTS") or [*_LOOPBACK, *([] if PRODUCTION else ["testserver"])]
if DEBUG and set(ALLOWED_HOSTS) - {*_LOOPBACK, "testserver"}:
    raise ImproperlyConfigured("SLIPWAY_DEBUG=1 shows source code in error pages: use it with loopback hosts only.")
if PRODUCTION and not env.words("SLIPWAY_HOSTS"):
    raise ImproperlyConfigured("SLIPWAY_HOSTS is empty. In production name the hosts you serve, e.g. ml.example.com.")

SECRET_KEY = env.text("SLIPWAY_SECRET_KEY")
if not SECRET_KEY:
    if PRODUCTION:
        raise ImproperlyConfigured(
            "SLIPWAY_SECRET_KEY (or SLIPWAY_SECRET_KEY_FILE) is not set. Use 50 random characters."
        )
    SECRET_KEY = env.kept_secret(VAR_DIR / "keys" / "secret_key")

# --- Parts ------------------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "mlops",
    "mlops.core",
    "mlops.jobs",
    "accounts",
    "registry",
    "serving",
    "monitoring",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.headless",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_filters",
    "django_htmx",
    "django_q",
    "csp",
]
MIDDLEWARE = [
    "mlops.core.middleware.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "mlops.core.problems.ProblemMiddleware",  # before allauth's, which is asked first and knows its own exceptions
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "accounts.middleware.CallerMiddleware",
]
ROOT_URLCONF = "mlops.urls"
WSGI_APPLICATION = "mlops.wsgi.application"
APPEND_SLASH = True
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "accounts.context.organisation",
                "mlops.context.product",
            ],
        },
    }
]

# --- Database ---------------------------------------------------------------------------------------------------------
# SQLite: immediate transactions and WAL, else concurrent web and queue writers meet "database is locked".
_SQLITE_OPTIONS = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;PRAGMA foreign_keys=ON",
}


def database(url: str) -> dict[str, object]:
    """A DATABASES entry from ``sqlite:///path`` or ``postgresql://user:password@host:port/name?option=value``."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        name = parts.path if parts.path.startswith("//") else parts.path.lstrip("/")
        path = Path(name.replace("//", "/", 1)) if name.startswith("//") else BASE_DIR / name
        # the tests' database is a file too: the queue and the web server of the end-to-end tests share it
        test = {"NAME": os.environ.get("SLIPWAY_TEST_DB") or None}
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": path,
            "OPTIONS": _SQLITE_OPTIONS,
            "CONN_MAX_AGE": 0,
            "TEST": test,
        }
    if parts.scheme in ("postgres", "postgresql"):
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": unquote(parts.path.lstrip("/")),
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": unquote(parts.hostname or ""),
            "PORT": str(parts.port or ""),
            "OPTIONS": dict(parse_qsl(parts.query)),
            "CONN_MAX_AGE": 60,
            "CONN_HEALTH_CHECKS": True,
        }
    raise ImproperlyConfigured(
        f"DATABASE_URL begins with {parts.scheme!r}. Use sqlite:///var/db.sqlite3 or postgresql://user:password@host/name."
    )


DATABASE_URL = env.text("DATABASE_URL") or f"sqlite:////{VAR_DIR.as_posix().lstrip('/')}/db.sqlite3"
DATABASES = {"default": database(DATABASE_URL)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# Throttles and login limits are shared by all web workers through the database.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "slipway_cache",
        "OPTIONS": {"MAX_ENTRIES": 50_000},
    },
}

# --- People -----------------------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_UNIQUE_EMAIL = True
ACCOUNT_EMAIL_VERIFICATION = env.choice(
    "SLIPWAY_EMAIL_VERIFICATION", "mandatory" if PRODUCTION else "optional", ("mandatory", "optional")
)
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_LOGOUT_ON_PASSWORD_CHANGE = True
ACCOUNT_CONFIRM_EMAIL_ON_GET = False
ACCOUNT_PREVENT_ENUMERATION = True
MFA_ADAPTER = "accounts.adapter.MfaAdapter"
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
JWT_ACCESS_SECONDS = env.number("SLIPWAY_JWT_ACCESS_SECONDS", 900, least=30)
JWT_REFRESH_SECONDS = env.number("SLIPWAY_JWT_REFRESH_SECONDS", 14 * 86400, least=60)
INVITATION_DAYS = 7

# --- Security of pages -------------------------------------------------------------------------------------------------
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "mlops.core.problems.csrf_failure"
_HTTPS = BASE_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _HTTPS
SECURE_SSL_REDIRECT = _HTTPS and env.flag("SLIPWAY_SSL_REDIRECT", default=True)
SECURE_HSTS_SECONDS = 31_536_000 if _HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = _HTTPS
if env.flag("SLIPWAY_BEHIND_PROXY", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
CSRF_TRUSTED_ORIGINS = [BASE_URL] if _HTTPS else []

# --- API --------------------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.authentication.KeyAuthentication",
        "accounts.authentication.JwtAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.authentication.SignedIn"],
    "DEFAULT_RENDERER_CLASSES": ["mlops.core.rendering.JsonRenderer"],
    "DEFAULT_PARSER_CLASSES": ["mlops.core.parsing.JsonParser"],
    "DEFAULT_PAGINATION_CLASS": "mlops.core.pagination.CursorPages",
    "PAGE_SIZE": 50,
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "mlops.core.problems.drf_handler",
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_THROTTLE_CLASSES": ["accounts.throttling.ApiThrottle"],
    "NUM_PROXIES": env.number("SLIPWAY_PROXIES", 0),
}
API_RATE = env.number("SLIPWAY_API_RATE", 1200, least=1)  # management calls per caller and minute
AUTH_RATE = env.number("SLIPWAY_AUTH_RATE", 30, least=1)  # sign-in and register calls per address and minute
PREDICT_RATE = env.number("SLIPWAY_PREDICT_RATE", 60_000, least=1)  # predictions per key or person and minute
ORGANIZATION_PREDICT_RATE = env.number(
    "SLIPWAY_ORGANIZATION_PREDICT_RATE", 600_000, least=1
)  # ... per organisation, all its keys together
SPECTACULAR_SETTINGS = {
    "TITLE": "Slipway",
    "DESCRIPTION": "Push a trained model, get a watched API.",
    "VERSION": VERSION,
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {
        "RoleEnum": "accounts.roles.Role",
        "JobStatusEnum": "mlops.jobs.models.JobStatus",
        "VersionStatusEnum": "registry.models.VersionStatus",
        "SourceKindEnum": "registry.models.Source.Kind",
        "PushStatusEnum": "registry.models.PushStatus",
        "StageEnum": "registry.models.Stage",
        "ApprovalVerdictEnum": "registry.models.Approval.Verdict",
        "DeploymentStatusEnum": "serving.models.DeploymentStatus",
        "IncidentStatusEnum": "monitoring.models.IncidentStatus",
        "VerdictEnum": "monitoring.models.DriftCheck.Verdict",
        "SeverityEnum": "monitoring.models.Severity",
        "RuleSeverityEnum": "monitoring.models.AlertRule.Severity",
        "MovedEnum": ("ok", "learning", "warning", "drift"),
        "ChannelKindEnum": "monitoring.models.Channel.Kind",
        "ChannelEventEnum": "monitoring.models.Channel.Event",
        "ChannelStateEnum": ("ok", "idle", "failing", "disabled"),
    },
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": [],
}

# --- Files ------------------------------------------------------------------------------------------------------------
UPLOAD_LIMIT_BYTES = env.number("SLIPWAY_UPLOAD_LIMIT_BYTES", 5 << 30, least=1)
DATASET_LIMIT_BYTES = env.number("SLIPWAY_DATASET_LIMIT_BYTES", 200 << 20, least=1)
UPLOAD_KEEP = timedelta(
    hours=env.number("SLIPWAY_UPLOAD_KEEP_HOURS", 24, least=1)
)  # an unfinished or unused upload, after its last byte
# What one organisation may have; 0: no limit. Django's admin sets others for single ones.
ORG_STORAGE_BYTES = env.number("SLIPWAY_ORG_STORAGE_BYTES", 100 << 30)
ORG_VERSIONS = env.number("SLIPWAY_ORG_VERSIONS", 0)
ORG_VALIDATIONS = env.number("SLIPWAY_ORG_VALIDATIONS", 50)  # waiting or running at once
DATA_UPLOAD_MAX_MEMORY_SIZE = 5 << 20
DATA_UPLOAD_MAX_NUMBER_FILES = 2_100  # a folder has at most 2,000, and beside it come a sample and a reference
FILE_UPLOAD_MAX_MEMORY_SIZE = 1 << 20
FILE_UPLOAD_TEMP_DIR = str(VAR_DIR / "uploads")
Path(FILE_UPLOAD_TEMP_DIR).mkdir(exist_ok=True)
ARTIFACT_DIR = VAR_DIR / "artifacts"
ARTIFACT_DIR.mkdir(exist_ok=True)
TRAININGS_DIR = (
    VAR_DIR / "trainings"
)  # <retraining>/ each: data, and the one folder that a training of a user's may write
ENVIRONMENTS_DIR = VAR_DIR / "environments"  # dependency sets: <id>/ each, made by the builder, read by runnerd
SET_ZYGOTES = env.number("SLIPWAY_SET_ZYGOTES", 8, least=0)  # dependency sets that are held imported at one time
PACKAGE_INDEX = env.text("SLIPWAY_PACKAGE_INDEX")  # a simple index; empty: what this machine's pip is set to
PACKAGE_HOSTS = env.words("SLIPWAY_PACKAGE_HOSTS")  # beside the index's own, e.g. where it keeps its files
PACKAGE_CA = env.text("SLIPWAY_PACKAGE_CA")  # a file of certificates; empty: this machine's
ENVIRONMENT_PACKAGES = env.number("SLIPWAY_ENVIRONMENT_PACKAGES", 200, least=1)
ENVIRONMENT_BYTES = env.number("SLIPWAY_ENVIRONMENT_BYTES", 3 << 30, least=1 << 20)
ENVIRONMENT_BUILD_S = env.number("SLIPWAY_ENVIRONMENT_BUILD_S", 300, least=10)
STORAGE_KIND = env.choice("SLIPWAY_STORAGE", "disk", ("disk", "s3"))
if STORAGE_KIND == "s3":
    from botocore.config import Config as _S3Config

    _S3_ADDRESSING = env.choice("SLIPWAY_S3_ADDRESSING", "path", ("path", "virtual"))
    _FILES = {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": env.text("SLIPWAY_S3_BUCKET", "slipway"),
            "endpoint_url": env.text("SLIPWAY_S3_ENDPOINT") or None,
            "region_name": env.text("SLIPWAY_S3_REGION", "us-east-1"),
            "access_key": env.text("SLIPWAY_S3_ACCESS_KEY") or None,
            "secret_key": env.text("SLIPWAY_S3_SECRET_KEY") or None,
            "client_config": _S3Config(
                signature_version="s3v4",
                s3={"addressing_style": _S3_ADDRESSING},
                connect_timeout=5,  # botocore's own patience, five times a minute, holds threads and locks
                retries={"mode": "standard", "total_max_attempts": 3},
            ),
            "file_overwrite": False,
            "default_acl": None,
            "querystring_auth": True,
            "max_memory_size": 8 << 20,  # 0 would read a 2 GB model into memory
        },
    }
else:
    _FILES = {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": str(VAR_DIR / "files"), "file_permissions_mode": 0o600},
    }
STATIC_URL = "/static/"
STATIC_ROOT = Path(env.text("SLIPWAY_STATIC_ROOT", str(VAR_DIR / "static")))
if not PRODUCTION:
    STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # stays empty: files are found where they lie
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = not PRODUCTION
WHITENOISE_AUTOREFRESH = DEBUG or TESTING  # in tests every client would look through all files first
STORAGES = {
    "default": _FILES,
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if PRODUCTION
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}

# --- Mail -------------------------------------------------------------------------------------------------------------
if env.text("EMAIL_HOST"):
    EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    EMAIL_HOST = env.text("EMAIL_HOST")
    EMAIL_PORT = env.number("EMAIL_PORT", 587)
    EMAIL_HOST_USER = env.text("EMAIL_USER")
    EMAIL_HOST_PASSWORD = env.text("EMAIL_PASSWORD")
    EMAIL_USE_SSL = env.flag("EMAIL_SSL", default=False)  # TLS from the first byte, mostly port 465
    EMAIL_USE_TLS = env.flag("EMAIL_TLS", default=not EMAIL_USE_SSL)  # STARTTLS
    if EMAIL_USE_SSL and EMAIL_USE_TLS:
        raise ImproperlyConfigured(
            "EMAIL_SSL and EMAIL_TLS are both on: use EMAIL_SSL for port 465, EMAIL_TLS for 587."
        )
    EMAIL_TIMEOUT = env.number("EMAIL_TIMEOUT", 20, least=1)  # seconds for each answer of the server
else:
    EMAIL_BACKEND = "mlops.core.mail.MailFileBackend"
    EMAIL_FILE_PATH = str(VAR_DIR / "mail")
ALERT_GROUP_S = env.number("SLIPWAY_ALERT_GROUP_S", 30)  # what fires within so many seconds is told in one mail
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.text("SLIPWAY_MAIL_FROM", "Slipway <slipway@localhost>")

# --- Background work ---------------------------------------------------------------------------------------------------
# django-q2 is a transport; our Job row holds the promises. retry > 2*timeout and queue_limit 1: else tasks run twice.
JOB_TIMEOUT_S = 540  # the longest: a validation that builds a dependency set
Q_CLUSTER = {
    "name": "slipway",
    "orm": "default",
    "workers": env.number("SLIPWAY_WORKERS", 2, least=1),
    "timeout": JOB_TIMEOUT_S,
    "retry": 2 * (JOB_TIMEOUT_S + 5),
    "max_attempts": 1,
    "ack_failures": True,
    "queue_limit": 1,
    "bulk": 1,
    "poll": 0.2,
    "guard_cycle": 0.5,
    "daemonize_workers": False,
    "catch_up": False,
    "save_limit": 100,
    "label": "Queue (transport)",
    "time_zone": "UTC",
}
JOB_LEASE = timedelta(seconds=30)

# --- Other people's servers ---------------------------------------------------------------------------------------------
OUTBOUND_ALLOW = env.places("SLIPWAY_OUTBOUND_ALLOW")  # self-hosted forges: host:port or a range; http is allowed there
HOOK_RATE = env.number("SLIPWAY_HOOK_RATE", 120, least=1)  # webhook calls per source and minute
GIT_DIR = VAR_DIR / "git"  # of fetches that go on
GIT_LIMIT_BYTES = env.number("SLIPWAY_GIT_LIMIT_BYTES", 3 << 30, least=1 << 20)  # on disk, while one commit is fetched
GIT_FETCH_S = env.number("SLIPWAY_GIT_FETCH_S", 180, least=5)

# --- The web process ---------------------------------------------------------------------------------------------------
WEB_THREADS = env.number(
    "SLIPWAY_WEB_THREADS", 8, least=1
)  # Django's, in each web process; predictions by key need none

# --- Where models run ---------------------------------------------------------------------------------------------------
TRUST_UPLOADERS = env.flag("SLIPWAY_TRUST_UPLOADERS", default=False)
# What bounds uploaded models (docs/sandbox.md). SANDBOX is the same by a shorter name.
SANDBOX = env.choice("SLIPWAY_SANDBOX", env.choice("SANDBOX", "auto", SANDBOXES), SANDBOXES)
RUNNERD_SOCKET = env.text("SLIPWAY_RUNNERD_SOCKET", str(VAR_DIR / "run" / "runnerd.sock"))
if len(RUNNERD_SOCKET) > 90:  # the kernel takes 107 bytes for a unix socket's path
    RUNNERD_SOCKET = (
        f"/tmp/slipway-{os.getuid()}-{hashlib.sha256(RUNNERD_SOCKET.encode()).hexdigest()[:12]}/runnerd.sock"  # noqa: S108  made 0700 by runnerd
    )
os.environ["SLIPWAY_RUNNERD_SOCKET"] = RUNNERD_SOCKET  # mlops.runtime reads the environment: it knows no Django
MODEL_CACHE_BYTES = env.number("SLIPWAY_MODEL_CACHE_BYTES", 4 << 30, least=1 << 20)
MODEL_LOAD_S = env.number("SLIPWAY_MODEL_LOAD_S", 60, least=1)  # limits of one model; kept by killing its process
MODEL_PREDICT_S = env.number("SLIPWAY_MODEL_PREDICT_S", 10, least=1)
MODEL_REPLICAS = env.number(
    "SLIPWAY_MODEL_REPLICAS", 4, least=1
)  # processes of a busy version at most; never more than cores
MODEL_MEMORY_BYTES = env.number("SLIPWAY_MODEL_MEMORY_BYTES", 2 << 30, least=64 << 20)
VALIDATION_S = env.number("SLIPWAY_VALIDATION_S", 120, least=10)
TRAINING_MINUTES = env.number("SLIPWAY_TRAINING_MINUTES", 120, least=1)  # the most a retraining policy may ask for
TRAINING_MEMORY_BYTES = env.number("SLIPWAY_TRAINING_MEMORY_BYTES", 8 << 30, least=64 << 20)  # likewise
TRAINING_OUT_BYTES = env.number("SLIPWAY_TRAINING_OUT_BYTES", 1 << 30, least=1 << 20)  # of what one training writes
SPOOL_DIR = VAR_DIR / "spool"
SPOOL_LIMIT_BYTES = env.number(
    "SLIPWAY_SPOOL_LIMIT_BYTES", 10 << 30, least=1
)  # beyond it predictions are answered but not logged
SIGNING_KEY_FILE = Path(env.text("SLIPWAY_SIGNING_KEY_FILE", str(VAR_DIR / "keys" / "signing_ed25519.pem")))
BATCH_LIMIT_BYTES = env.number("SLIPWAY_BATCH_LIMIT_BYTES", 2 << 30, least=1)  # of one uploaded file of rows
BATCH_RESULT_LIMIT_BYTES = env.number("SLIPWAY_BATCH_RESULT_LIMIT_BYTES", 8 << 30, least=1)
BATCH_KEEP_DAYS = env.number("SLIPWAY_BATCH_KEEP_DAYS", 7, least=1)
BATCH_RUNS = env.number("SLIPWAY_BATCH_RUNS", 20, least=1)  # waiting or running at once, per organisation
BATCH_PORTION_S = 120  # a run gives its worker to others after that, and goes on behind them
PREDICTION_RETENTION_DAYS = env.number("SLIPWAY_PREDICTION_RETENTION_DAYS", 30, least=1)

# --- The rest ------------------------------------------------------------------------------------------------------------
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
SILENCED_SYSTEM_CHECKS = [] if _HTTPS else ["security.W004", "security.W008", "security.W012", "security.W016"]
LOGGING_CONFIG = "mlops.core.logs.configure"
LOGGING = {"level": env.choice("SLIPWAY_LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR")), "json": PRODUCTION}
