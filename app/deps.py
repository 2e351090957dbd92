"""What operations depend on: settings, the caller, the unit of work, the store."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Coroutine, Sequence
from functools import lru_cache, partial, wraps
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar, cast
from uuid import UUID

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Engine

from app.blobs.store import ArtifactStore, open_store
from app.broker.background_sender import Sender
from app.db.origin import Origin
from app.db.session import SessionFactory, session_factory, unit_of_work
from app.db.threads import POOL_SIZE, in_turn
from app.http.hosts import SESSION_COOKIE
from app.services.dashboard_sessions import key_of_session
from app.services.work import Work
from app.settings import Settings
from app.tracing import traceparent
from secateur.contract.errors import Unauthorized

if TYPE_CHECKING:
    from celery import Celery

P = ParamSpec("P")
Result = TypeVar("Result")

ANONYMOUS = "local"  # the caller where no keys are set

# What does not wait is `async`: for a plain function the framework would change threads, which costs more than it does.


async def get_settings(request: Request) -> Settings:
    """The settings that the application was made with."""
    return cast(Settings, request.app.state.settings)


SettingsDep = Annotated[Settings, Depends(get_settings)]


def caller_of(settings: Settings, token: str | None) -> str:
    """The name of the key that `token` is; Unauthorized if it is none. Takes the same time for every wrong token."""
    if not settings.api_keys:
        return ANONYMOUS
    if token is None:
        raise Unauthorized(
            "this service needs an API key: send the header Authorization: Bearer KEY",
            headers={"WWW-Authenticate": 'Bearer realm="secateur"'},
        )
    digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
    found = None
    for key in settings.api_keys:
        expected = hashlib.sha256(key.get_secret_value().encode()).digest()
        if hmac.compare_digest(digest, expected):
            found = f"key-{expected.hex()[:12]}"
    if found is None:
        raise Unauthorized(
            "the API key is not known to this service",
            headers={"WWW-Authenticate": 'Bearer realm="secateur", error="invalid_token"'},
        )
    return found


def caller_of_session(settings: Settings, cookie: str) -> str | None:
    """The name of the key that the dashboard was opened with; None for a cookie that opens nothing (any more)."""
    with unit_of_work(session_factory(settings, pool_size=POOL_SIZE)) as session:
        key = key_of_session(session, settings, cookie)
    return None if key is None else caller_of(settings, key)


class _ApiKey(HTTPBearer):
    """Who calls: the name of the key, never the key. A browser that has the dashboard open sends its cookie.

    It is the scheme that OpenAPI tells of and the operation's argument in one: each thing that an operation depends on
    costs every request some time.
    """

    async def __call__(self, request: Request) -> str:  # type: ignore[override]  # what the scheme finds, looked up
        return await get_caller(request, await super().__call__(request))


async def get_caller(request: Request, credentials: HTTPAuthorizationCredentials | None) -> str:
    """The name of the key that came with a request, or that its cookie stands for. Unauthorized where there is none."""
    settings: Settings = request.app.state.settings
    cookie = request.cookies.get(SESSION_COOKIE) if settings.api_keys else None
    if credentials is None and cookie is not None:  # which the database is asked about
        caller = await in_turn(partial(caller_of_session, settings, cookie))
        if caller is not None:
            return caller
    return caller_of(settings, credentials.credentials if credentials else None)


_api_key = _ApiKey(
    auto_error=False,
    scheme_name="apiKey",
    description="An API key of this service. None is needed where none is configured, which only loopback allows.",
)
Caller = Annotated[str, Depends(_api_key)]


async def get_factory(settings: SettingsDep) -> SessionFactory:
    """For what opens its own short transactions, such as an event stream."""
    return session_factory(settings, pool_size=POOL_SIZE)


def dispose_pool(settings: Settings) -> None:
    """Close the database connections that no request holds."""
    if settings.database_url is not None:
        engine: Engine = session_factory(settings, pool_size=POOL_SIZE).kw["bind"]
        engine.dispose()


FactoryDep = Annotated[SessionFactory, Depends(get_factory)]


@lru_cache(maxsize=4)
def celery_for(settings: Settings) -> Celery:
    """The Celery instance for these settings. Raises Unavailable if no broker is configured."""
    from app.broker.queue import make_celery  # heavy, and not needed to start

    return make_celery(settings)


def _send_stages(settings: Settings, stage_ids: Sequence[UUID]) -> bool:
    from app.broker.sender import send_stages

    return send_stages(stage_ids, celery=celery_for(settings))


@lru_cache(maxsize=4)
def sender_for(settings: Settings) -> Sender:
    """What sends this process's messages."""
    return Sender(partial(_send_stages, settings))


async def get_work(request: Request) -> Work:
    """The unit of work of an operation that is a `transaction`."""
    settings: Settings = request.app.state.settings
    return Work(
        settings,
        session_factory(settings, pool_size=POOL_SIZE),
        sender_for(settings).send,
        Origin(getattr(request.state, "request_id", None), traceparent()),
    )


WorkDep = Annotated[Work, Depends(get_work)]


def transaction(operation: Callable[P, Result]) -> Callable[P, Coroutine[Any, Any, Result]]:
    """An operation with an argument `work: WorkDep` as one transaction, in a thread of its own.

    It is committed before the response is sent, and rolled back if the operation raises. No more of them run at a time
    than there are connections, and those that wait too long for their turn are told to come back (`in_turn`).
    """

    @wraps(operation)
    async def run(*arguments: P.args, **named: P.kwargs) -> Result:
        return await in_turn(partial(_committed, operation, arguments, named))

    return run


def _committed(operation: Callable[..., Result], arguments: tuple[object, ...], named: dict[str, Any]) -> Result:
    with cast(Work, named["work"]):
        return operation(*arguments, **named)


@lru_cache(maxsize=4)
def store_at(url: str) -> ArtifactStore:
    """The process's store at this address."""
    return open_store(url)


def get_store(settings: SettingsDep) -> ArtifactStore:
    """Where published files lie."""
    return store_at(settings.store_url)


StoreDep = Annotated[ArtifactStore, Depends(get_store)]
