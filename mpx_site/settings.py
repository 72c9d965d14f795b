"""Settings, all from the environment (and `.env`); unsafe or unknown values stop the start."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from kombu import Queue

from mpx_site import access_settings, voice_settings
from mpx_site import configuration as conf

BASE_DIR = Path(__file__).resolve().parent.parent
conf.env.read_env(BASE_DIR / ".env")

MPX_HOME = Path(conf.text("MPX_HOME", str(BASE_DIR / "var")))
SECRET_KEY = conf.secret_key(MPX_HOME)
DEBUG = conf.flag("DEBUG", default=False)
ALLOWED_HOSTS = conf.words("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = conf.words("CSRF_TRUSTED_ORIGINS")

DATA_SOURCE = conf.data_source()
SERVICE_ROLE = conf.choice(
    "SERVICE_ROLE", default="all", among=("api", "ingestor", "worker", "all")
)
API_PORT = conf.number("API_PORT", default=8080, high=65535)
ADMIN_API_TOKEN = conf.secret("ADMIN_API_TOKEN")

EXEC_MODE = conf.choice("EXEC_MODE", default="semi_auto", among=("semi_auto",))
EXEC_MAX_NOTIONAL_PER_ORDER = conf.money("EXEC_MAX_NOTIONAL_PER_ORDER", default="200")
EXEC_MAX_CONCURRENT_ORDERS = conf.number("EXEC_MAX_CONCURRENT_ORDERS", default=2)
EXEC_MAX_DAILY_NOTIONAL = conf.money("EXEC_MAX_DAILY_NOTIONAL", default="1000")
EXEC_SLIPPAGE_BPS = conf.number("EXEC_SLIPPAGE_BPS", default=80, low=0, high=10_000)
EXEC_MAX_EVENT_EXPOSURE = conf.money("EXEC_MAX_EVENT_EXPOSURE", default="400")
# One person may propose and approve: for trying the desk out alone. Shown as a badge, and on
# in `up` unless it is set.
MPX_SINGLE_OPERATOR = conf.flag("MPX_SINGLE_OPERATOR", default=False)
# The paper venue: from approval to the first leg's arrival, and from leg to leg.
PAPER_LATENCY_MS = conf.number("PAPER_LATENCY_MS", default=250, low=0, high=60_000)
PAPER_LEG_GAP_MS = conf.number("PAPER_LEG_GAP_MS", default=20, low=0, high=10_000)
conf.refuse_strangers("EXEC_MAX_", "EXEC_SLIPPAGE_", "PAPER_", known=globals())

POLYMARKET_SITE_URL = conf.url(  # for people: the only site outside that pages link to
    "POLYMARKET_SITE_URL", default="https://polymarket.com", schemes=("https",)
)
POLYMARKET_GAMMA_URL = conf.url(
    "POLYMARKET_GAMMA_URL", default="https://gamma-api.polymarket.com", schemes=("http", "https")
)
POLYMARKET_CLOB_URL = conf.url(
    "POLYMARKET_CLOB_URL", default="https://clob.polymarket.com", schemes=("http", "https")
)
POLYMARKET_WS_URL = conf.url(
    "POLYMARKET_WS_URL",
    default="wss://ws-subscriptions-clob.polymarket.com/ws/market",
    schemes=("ws", "wss"),
)

TELEGRAM_ENABLED = conf.flag("TELEGRAM_ENABLED", default=False)
TELEGRAM_BOT_TOKEN = conf.secret("TELEGRAM_BOT_TOKEN")
TELEGRAM_CHAT_ID = conf.text("TELEGRAM_CHAT_ID")
MPX_PORTAL_URL = conf.url(  # where links in messages lead
    "MPX_PORTAL_URL", default=f"http://localhost:{API_PORT}", schemes=("http", "https")
)
TELEGRAM_API_URL = conf.url(
    "TELEGRAM_API_URL", default="https://api.telegram.org/bot", schemes=("http", "https")
)
MPX_WEBHOOK_URL, MPX_WEBHOOK_SECRET = voice_settings.webhook()
_mail = voice_settings.mail_server()
EMAIL_HOST, EMAIL_PORT = _mail.host, _mail.port
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = _mail.user, _mail.password
EMAIL_USE_TLS, EMAIL_USE_SSL, EMAIL_TIMEOUT = _mail.tls, _mail.ssl, 10
MPX_EMAIL_TO = voice_settings.recipients(_mail)
MPX_EMAIL_FROM = voice_settings.sender()
conf.refuse_strangers("MPX_WEBHOOK_", "MPX_EMAIL_", known=globals())

SIMULATOR_SEED = conf.number("SIMULATOR_SEED", default=7, low=0)
SIMULATOR_EVENTS = conf.number("SIMULATOR_EVENTS", default=60)

DATABASES = {"default": conf.database(MPX_HOME)}
# Of PostgreSQL: connections of one process, four of them never for pages (docs/deploy.md), and how
# long one statement of a page may take, 0: for ever.
MPX_DB_CONNECTIONS = conf.number("MPX_DB_CONNECTIONS", default=12, low=6, high=1_000)
MPX_PAGE_QUERY_SECONDS = conf.number("MPX_PAGE_QUERY_SECONDS", default=10, low=0, high=600)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
REDIS_URL = conf.url("REDIS_URL", default="", schemes=("redis", "rediss"))

INSTALLED_APPS = [
    "daphne",
    "mpx_site.admin_config.MpxAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "channels",
    "csp",
    "django_celery_beat",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "rest_framework",
    "mpx_site",  # first of ours: its commands win over those that they extend
    "alerts",
    "markets",
    "rules",
    "signals",
    "risk",
    "execution",
]
MIDDLEWARE = [
    "mpx_site.tracing.traced",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "mpx_site.access.watch.Watch",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "mpx_site.urls"
ASGI_APPLICATION = "mpx_site.asgi.application"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "login"
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
                "mpx_site.portal.desk.badges",
            ],
        },
    },
]

LANGUAGE_CODE = "en"
FORMAT_MODULE_PATH = "mpx_site.formats"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = conf.text("STATIC_ROOT") or None  # only where files are collected for a server
WHITENOISE_USE_FINDERS = True

SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_AGE = 12 * 3_600  # seconds from the login on, however busy it is
MPX_IDLE_MINUTES = conf.number("MPX_IDLE_MINUTES", default=30, low=0, high=720)  # 0: never
# How old a password may be for what cannot be taken back; 0: as old as the login.
MPX_RECENT_MINUTES = conf.number("MPX_RECENT_MINUTES", default=15, low=0, high=720)
# Who approves orders must have set up a second factor.
MPX_REQUIRE_TOTP = conf.flag("MPX_REQUIRE_TOTP", default=False)
MPX_TRUSTED_PROXIES = access_settings.trusted_proxies()
globals().update(access_settings.behind_tls())
access_settings.refuse_known_secrets(
    debug=DEBUG,
    source=DATA_SOURCE,
    given={
        "ADMIN_API_TOKEN": ADMIN_API_TOKEN,
        "POSTGRES_PASSWORD": str(DATABASES["default"].get("PASSWORD", "")),
    },
)
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "connect-src": ["'self'"],
        "font-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
}
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "mpx_site.api_login.OwnToken",
        "mpx_site.api_login.DeskSession",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["mpx_site.api_json.JsonParser"],
    "DEFAULT_THROTTLE_CLASSES": ["mpx_site.api_throttle.Reads", "mpx_site.api_throttle.Writes"],
    "DEFAULT_THROTTLE_RATES": {"reads": "600/min", "writes": "120/min"},
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_FILTER_BACKENDS": [],
    "EXCEPTION_HANDLER": "mpx_site.api_answers.answer_problem",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "MarketPulse-X",
    "DESCRIPTION": "Signals, markets and orders of the desk. See docs/api.md.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "mpx_site.api_schema.add_refusals",
    ],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {
        "MarketState": "markets.models.Market.State",
        "SignalStatus": "signals.models.Signal.Status",
        "IntentStatus": "execution.models.OrderIntent.Status",
        "LegState": "execution.models.IntentLeg.State",
        "BreakerState": "risk.models.Breaker.State",
        "SeedIntentStatus": "mpx_site.api_seed_execution.STATUSES",
        "SeedMarketStatus": "mpx_site.api_seed.STATUSES",
        "ComponentState": "mpx_site.health.STATES",
        "HealthStatus": "mpx_site.health.STATUSES",
        "AlertState": "alerts.models.OutboxEntry.State",
        "BacktestState": "execution.backtest_models.BacktestRun.State",
        "TokenScope": "mpx_site.models.Scope",
        "TokenState": "mpx_site.models.TOKEN_STATES",
    },
}

LOG_LEVEL = conf.choice("LOG_LEVEL", default="INFO", among=("DEBUG", "INFO", "WARNING", "ERROR"))
# JSON for servers, text for a person at a terminal.
LOG_FORMAT = conf.choice(
    "LOG_FORMAT", default="text" if sys.stderr.isatty() else "json", among=("json", "text")
)
DEFAULT_EXCEPTION_REPORTER = "mpx_site.error_report.MaskedReport"
LOGGING_CONFIG = "mpx_site.logs.configure"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "mpx_site.logs.Lines", "form": LOG_FORMAT}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        # Django's own handlers would write the same lines once more, with their secrets.
        "django": {"handlers": [], "level": "INFO"},
        "django.server": {"handlers": [], "propagate": True},
        # These log addresses, and an address may carry a token.
        "httpx": {"level": "WARNING"},
        "httpcore": {"level": "WARNING"},
        "telegram": {"level": "WARNING"},
        "daphne": {"level": "WARNING"},
        # Two lines per finished task; what a task did is in its row and its heartbeat.
        "celery.app.trace": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
        "django.channels.server": {"level": "WARNING"},
    },
}

# Once a minute, while rules are evaluated, the stream posts here: somebody else's alarm clock.
MPX_DEADMAN_URL = conf.url("MPX_DEADMAN_URL", default="", schemes=("http", "https"))
# How often a synthetic mispricing goes through the whole desk; 0: never.
MPX_PULSE_SECONDS = conf.number("MPX_PULSE_SECONDS", default=15, low=0, high=15)
# Counters of all processes on this machine are kept here and shown by each of them.
if REDIS_URL:
    os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", str(MPX_HOME / "metrics"))

TICKS_KEPT_DAYS = conf.number("TICKS_KEPT_DAYS", default=7)
WATCH_TOKENS = conf.number("WATCH_TOKENS", default=2_000, low=2)  # that the stream follows
# Into how many shards `stream` processes cut the venue; the same for all processes of a desk.
MPX_STREAM_SHARDS = conf.stream_shards(DATABASES["default"])

# The stream keeps what it receives, for what-ifs over the last hours; 0 hours: it keeps nothing.
MPX_KEEP_DIR = Path(conf.text("MPX_KEEP_DIR", str(MPX_HOME / "kept")))
MPX_HISTORY_DIR = Path(conf.text("MPX_HISTORY_DIR", str(MPX_HOME / "history")))
# UTC days of ticks kept as Parquet, beyond TICKS_KEPT_DAYS in the database; 0: for ever.
MPX_HISTORY_DAYS = conf.number("MPX_HISTORY_DAYS", default=0, low=0, high=36_500)
MPX_KEEP_HOURS = conf.number("MPX_KEEP_HOURS", default=24, low=0, high=8_760)
MPX_KEEP_MB = conf.number("MPX_KEEP_MB", default=2_048, low=16)
MPX_RECORDINGS = Path(conf.text("MPX_RECORDINGS", str(MPX_HOME / "recordings")))
MPX_MODELS = Path(conf.text("MPX_MODELS", str(MPX_HOME / "models")))  # of rules.ml_registry

# Celery is a trigger, never the truth: the reasons are in reference/operations.md D1.6.
CELERY_BROKER_URL = REDIS_URL or "memory://"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = (
    {
        # A task lost with its worker comes again after this long; longer ones acknowledge early.
        "visibility_timeout": 300,
        "unacked_restore_throttle": 1,
        "socket_connect_timeout": 5,
        "socket_timeout": 30,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }
    if REDIS_URL
    else {"polling_interval": 0.05}
)
CELERY_BEAT_SCHEDULER = "mpx_site.beat:Schedule"
CELERY_RESULT_EXPIRES = None  # there are no results, so nothing to clean up
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_SOFT_TIME_LIMIT, CELERY_TASK_TIME_LIMIT = 50, 60
CELERY_TASK_DEFAULT_QUEUE = "house"
CELERY_TASK_QUEUES = [Queue("house"), Queue("catalogue")]
CELERY_TASK_ROUTES = {
    f"markets.tasks.{name}": {"queue": "catalogue"}
    for name in ("catalogue_sync", "reconcile", "resolutions")
}
CELERY_TIMEZONE = TIME_ZONE
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
