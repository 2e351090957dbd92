"""How important a job found each block."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter

from app.api import example_errors, example_results, example_specs
from app.api.responses import BAD_PATH, UNAUTHORIZED, Tag, example, problems
from app.deps import Caller, WorkDep, transaction
from app.services import results
from secateur.contract.results import Scores

TAG = Tag("results", "Scores, report and files of a job.", place=3)
router = APIRouter(prefix="/jobs/{job_id}", tags=[TAG.name])


@router.get(
    "/scores",
    summary="Read a job's scores",
    responses={
        200: example(example_results.SCORES),
        **problems(
            UNAUTHORIZED,
            example_errors.NO_JOB,
            example_errors.NO_SCORES,
            BAD_PATH,
            instance=example_specs.JOB_PATH + "/scores",
        ),
    },
)
@transaction
def get_scores(job_id: UUID, work: WorkDep, _: Caller) -> Scores:
    """Every block's score and the order in which blocks would go; the choice as well, once pruning has made it."""
    return results.scores(work.session, job_id)
