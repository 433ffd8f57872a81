"""What a page of the project needs to show the progress of a user's own tasks: a token, and two scripts."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final

from django.http import Http404, HttpResponse, JsonResponse
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.http import require_GET

from celeriac.access.principal import Scope
from celeriac.access.tokens import mint_token
from celeriac.connection.place import find_place
from celeriac.errors import SettingsError
from celeriac.installation.run_file import find_installation
from celeriac.settings import Settings

#: How long a token is valid (seconds). The page asks for another one when it has to connect again.
TOKEN_S: Final = 300
#: The scripts by their names: the package and the path of each.
_SCRIPTS: Final = {
    "client.js": ("celeriac_api.pages", "static/notifications-client/celeriac-notifications.js"),
    "progress.js": ("celeriac.contrib.django", "progress.js"),
}


@never_cache
@require_GET
def token(request: Any) -> HttpResponse:
    """Answer with a short-lived token with which the signed-in user sees their own tasks, and nothing else."""
    if not request.user.is_authenticated:
        return JsonResponse({"detail": _("Sign in to see your tasks.")}, status=401)
    place = find_place()
    if place.settings is None:
        raise SettingsError("a token is made with the secret of the installation: set REDIS_URL and JWT_SECRET here")
    settings, user_id = place.settings, str(request.user.pk)
    minted = mint_token(
        settings.access, data_dir=settings.data_dir, user_id=user_id, scopes=[Scope.READ], ttl_s=TOKEN_S
    )
    return JsonResponse(
        {"token": minted, "user_id": user_id, "expires_in": TOKEN_S, "url": _api_address(settings)},
    )


def _api_address(settings: Settings) -> str:
    """Return where pages find the API: the public address, else that of the `celeriac up` that runs here."""
    running = None if settings.public_url is not None else find_installation(settings.data_dir)
    if running is None or running.redis != settings.redis_url:
        return settings.api_address
    return running.http


@cache_control(max_age=300)
@require_GET
def script(request: Any, name: str) -> HttpResponse:
    """Answer with one of the scripts."""
    if name not in _SCRIPTS:
        raise Http404
    package, path = _SCRIPTS[name]
    return HttpResponse((files(package) / path).read_bytes(), content_type="text/javascript; charset=utf-8")
