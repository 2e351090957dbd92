"""Liveness and readiness: open to everybody, since what watches a service rarely holds a key."""

from __future__ import annotations

from typing import cast

from fastapi import APIRouter, Request, Response

from app.api import examples
from app.api.responses import Tag, example
from app.services.readiness import Prober
from secateur.about import VERSION
from secateur.schemas.health import Health, Readiness

TAG = Tag("service", "Health and metrics.", place=7)
router = APIRouter(tags=[TAG.name])


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
async def get_readiness(request: Request, response: Response) -> Readiness:
    """Asks the database, its migrations, the broker and the store. 503 if one of them fails; the body tells which.

    It also says whether a worker is up that takes stages. Without one the service is ready all the same, and jobs wait.
    """
    result = Readiness.model_validate(await cast(Prober, request.app.state.prober).ask())
    response.status_code = 200 if result.ready else 503
    return result
