"""Which hosts this service answers to, and which pages may act on it: what keeps strangers' pages out of it.

*DNS rebinding*: a page of evil.example lets its name point to 127.0.0.1 and then reads what a service on this machine
answers, as its own site. The browser still says `Host: evil.example`, so a name that is not the service's own is
refused. An address cannot be rebound, so a host that is one is fine: a health check in a cluster comes that way. A
request that carries a key in its Authorization header is let through too: no page can send a key that it does not
have, and whether it is one is looked at later.

*Forged requests*: a page of another site can have a browser send requests that change something. Browsers tell where
they come from; such a request must come from the service's own pages, and one that is let in by the dashboard's cookie
has to tell.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from app.settings import Settings
from secateur.contract.errors import Forbidden, MisdirectedRequest, ServiceError
from secateur.contract.shown import shortened

LOOPBACK_NAMES = ("localhost",)
_HOST = re.compile(r"(?P<name>[A-Za-z0-9_]([A-Za-z0-9._-]*)|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}
SESSION_COOKIE = "secateur_session"  # the dashboard's
_COOKIE = re.compile(rf"(?:^|;)\s*{SESSION_COOKIE}=")
_HEALTH = frozenset({"/healthz", "/readyz"})  # told to whoever asks, by any name
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Hosts:
    """The names of one service."""

    def __init__(self, settings: Settings) -> None:
        self._locked = bool(settings.api_keys)
        names = [*LOOPBACK_NAMES, settings.host, *settings.allowed_hosts]
        self._public = urlsplit(settings.public_url) if settings.public_url else None
        if self._public is not None and self._public.hostname:
            names.append(self._public.hostname)
        self._exact = frozenset(_plain(name) for name in names if not name.startswith("*."))
        self._suffixes = tuple(name[1:].lower() for name in names if name.startswith("*."))
        self._served = lru_cache(maxsize=128)(self._is_served)  # clients say the same host with every request

    def refuse(self, scheme: str, method: str, path: str, headers: Headers) -> ServiceError | None:
        """Why a request is not served; None if it is."""
        given = headers.getlist("host")
        if len(given) > 1 or (given and _HOST.fullmatch(given[0]) is None):
            return MisdirectedRequest("the Host header is not one name or address with its port")
        by_key = "authorization" in headers
        # HTTP/1.0 has no Host, and no browser speaks it
        let_through = self._locked and (by_key or path in _HEALTH)
        if given and not let_through and not self._served(given[0]):
            return MisdirectedRequest(
                f"this service does not answer to the name {shortened(_name(given[0]))}: if it is the service's own, "
                "set SECATEUR_PUBLIC_URL, or add it to SECATEUR_ALLOWED_HOSTS"
            )
        if method in _SAFE_METHODS:
            return None
        cookie = _COOKIE.search(headers.get("cookie", "")) is not None
        return self._foreign(scheme, given[0] if given else "", headers, must_tell=cookie and not by_key)

    def _is_served(self, host: str) -> bool:
        name = _name(host)
        return _is_address(name) or name in self._exact or any(name.endswith(suffix) for suffix in self._suffixes)

    def _foreign(self, scheme: str, host: str, headers: Headers, *, must_tell: bool) -> ServiceError | None:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if site in ("cross-site", "same-site"):
            return _FOREIGN
        if origin is None and site is None and must_tell:
            referrer = headers.get("referer")
            if referrer is None:
                return Forbidden(
                    "a request that changes something and comes with the dashboard's cookie must tell its Origin; "
                    "programs send an API key instead: Authorization: Bearer KEY"
                )
            origin = "{0.scheme}://{0.netloc}".format(urlsplit(referrer))
        if origin is None:
            return None
        own = {_authority(scheme, host), _authority("http", host), _authority("https", host)}
        if self._public is not None:
            own.add(_authority(self._public.scheme, self._public.netloc))
        parts = _split(origin)
        return None if parts is not None and _authority(*parts) in own else _FOREIGN


_FOREIGN = Forbidden("requests that change something are not accepted from pages of other sites")


def _split(origin: str) -> tuple[str, str] | None:
    """Scheme and host of an Origin; None for `null` and what else is none."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return (parts.scheme, parts.netloc) if parts.scheme in _DEFAULT_PORTS and _HOST.fullmatch(parts.netloc) else None


def _authority(scheme: str, host: str) -> tuple[str, int]:
    """The name and the port that are meant, written out."""
    found = _HOST.fullmatch(host)
    port = found["port"] if found else None
    return _name(host), int(port) if port else _DEFAULT_PORTS.get(scheme, 0)


def _name(host: str) -> str:
    """The host without its port, as names are compared."""
    found = _HOST.fullmatch(host)
    return _plain(found["name"] if found else host)


def _plain(name: str) -> str:
    return name.lower().removesuffix(".").removeprefix("[").removesuffix("]")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
