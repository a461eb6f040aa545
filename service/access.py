"""Who may call what: bearer keys, compared in constant time."""

import hmac
from typing import TYPE_CHECKING

from fastapi import Request

from service.errors import Forbidden, NotOffered, Unauthorised

if TYPE_CHECKING:
    from service.calls import Service


def service_of(request: Request) -> "Service":
    """The scorer that a call is for, once its key is the right one.

    Raises:
        Unauthorised: a key is set and the call has none, or another.
    """
    service: Service = request.app.state.service
    key = service.settings.api_key.get_secret_value()
    if key and not _has_key(request, key):
        raise Unauthorised("authorization: a bearer key is needed", "authorization")
    return service


def admin_of(request: Request) -> "Service":
    """The same for paths that change what is served or stored.

    Raises:
        NotOffered: no admin key is set. Unauthorised: no key, or an unknown one. Forbidden: the scoring key.
    """
    service: Service = request.app.state.service
    settings = service.settings
    key = settings.admin_api_key.get_secret_value()
    if not key:
        raise NotOffered("there are no admin paths: CTR_ADMIN_API_KEY is empty")
    if _has_key(request, key):
        return service
    if settings.api_key.get_secret_value() and _has_key(request, settings.api_key.get_secret_value()):
        raise Forbidden("authorization: the admin key is needed, this is the scoring key", "authorization")
    raise Unauthorised("authorization: a bearer key is needed", "authorization")


def _has_key(request: Request, key: str) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1"), key.encode())
