"""Settings of the shop: SQLite, or the PostgreSQL server of `SHOP_DATABASE`."""

import os
from pathlib import Path
from urllib.parse import urlsplit

import django

BASE_DIR = Path(__file__).resolve().parents[1]
SECRET_KEY = os.environ.get("SHOP_SECRET_KEY", "for this example only, on one machine")
DEBUG = "SHOP_SECRET_KEY" not in os.environ
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    # Django 6 has tasks of its own.
    *(["django_tasks"] if django.VERSION < (6,) else []),
    "celeriac.contrib.django",
    "orders",
    # Apps of a project that moves in; the tests of Celeriac name some.
    *filter(None, os.environ.get("SHOP_APPS", "").split(",")),
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    # Tasks of a request are those of its user.
    "celeriac.contrib.django.users.TaskUserMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "shop.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en"
TIME_ZONE = "Europe/Berlin"
USE_TZ = True
STATIC_URL = "static/"

_url = urlsplit(os.environ.get("SHOP_DATABASE", ""))
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _url.path.lstrip("/"),
        "USER": _url.username or "",
        "PASSWORD": _url.password or "",
        "HOST": _url.hostname or "",
        "PORT": _url.port or "",
    }
    if _url.scheme
    else {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SHOP_SQLITE", str(BASE_DIR / "shop.sqlite3")),
        # A writer waits for another one from its begin on.
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
    }
}

TASKS = {
    "default": {
        "BACKEND": "celeriac.contrib.django.CeleriacBackend",
        "QUEUES": ["default", "mail"],
        # A row in the transaction of the order: the mail is sent if the order is there, and only then.
        "OPTIONS": {"enqueue": "outbox"},
    },
    "at_once": {
        "BACKEND": "celeriac.contrib.django.CeleriacBackend",
        "QUEUES": ["default", "mail"],
        "OPTIONS": {"enqueue": "now"},
    },
    "on_commit": {
        "BACKEND": "celeriac.contrib.django.CeleriacBackend",
        "QUEUES": ["default", "mail"],
        "OPTIONS": {"enqueue": "on_commit"},
    },
}
# Any setting of celeriac.yaml. Without `redis_url`, the project uses the `manage.py celeriac up` that runs here.
CELERIAC = {
    "data_dir": BASE_DIR / ".celeriac",
    # Pages of this site may connect to the API, to show how far tasks are.
    "access": {"cors_origins": ["http://127.0.0.1:8080", "http://localhost:8080"]},
}
