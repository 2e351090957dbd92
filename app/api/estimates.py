"""What a job will take and give, before anything is downloaded or run."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body

from app.api import example_errors, example_estimates, example_specs
from app.api.catalog import TAG
from app.api.responses import BODY_ERRORS, FOREIGN_PAGE, UNAUTHORIZED, example, problems
from app.deps import Caller, WorkDep, transaction
from app.services.estimates import estimate
from secateur.contract.spec import CompressionSpec
from secateur.schemas.estimates import Estimate

router = APIRouter(tags=[TAG.name])


@router.post(
    "/estimates",
    summary="Estimate a job",
    responses={
        200: example(example_estimates.ESTIMATE),
        **problems(UNAUTHORIZED, FOREIGN_PAGE, *BODY_ERRORS, *example_errors.SUBMIT_ERRORS, instance="/estimates"),
    },
)
@transaction
def estimate_job(
    spec: Annotated[CompressionSpec, Body(openapi_examples=example_specs.SUBMIT)], work: WorkDep, _: Caller
) -> Estimate:
    """Takes the body of `POST /jobs`, checks it as that does, and says what the job will take and give.

    Sizes follow from the model's config, times from stages that this installation has run. Nothing is downloaded but
    the config of a hub model, nothing is queued, and what nothing tells is null.
    """
    return estimate(work, spec)
