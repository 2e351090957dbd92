"""Liveness and readiness: open to everybody, since what watches a service rarely holds a key."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from app.api import examples
from app.api.responses import example
from app.db.session import session_factory
from app.deps import POOL_SIZE, SettingsDep, celery_for
from app.schemas.health import Health, Readiness
from app.services.readiness import readiness
from app.version import VERSION

router = APIRouter(tags=["service"])


@router.get("/healthz", summary="Is the process alive", responses={200: example(examples.HEALTH)})
async def get_health(request: Request) -> Health:
    """Answers as long as the API process does; it looks at nothing else, and waits for no thread."""
    return Health(version=VERSION, instance=request.app.state.instance)


@router.get(
    "/readyz",
    summary="Can the service do its work",
    responses={
        200: example(examples.READY),
        503: {
            "model": Readiness,
            **example(examples.NOT_READY, description="Something that the service needs does not answer."),
        },
    },
)
def get_readiness(settings: SettingsDep, response: Response) -> Readiness:
    """Asks the database, its migrations and the broker. 503 if one of them fails; the body tells which."""
    asked = readiness(
        settings,
        factory=lambda: session_factory(settings, pool_size=POOL_SIZE),
        celery=lambda: celery_for(settings),
    )
    result = Readiness.model_validate(asked)
    response.status_code = 200 if result.ready else 503
    return result
