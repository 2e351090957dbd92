"""A job held against another one."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter

from app.api import example_errors, example_results, example_specs
from app.api.responses import BAD_PATH, UNAUTHORIZED, example, problems
from app.api.scores import TAG
from app.deps import Caller, WorkDep, transaction
from app.services.comparison import compare
from secateur.contract.comparison import JobComparison

router = APIRouter(prefix="/jobs/{job_id}", tags=[TAG.name])


@router.get(
    "/compare/{other_id}",
    summary="Compare two jobs",
    responses={
        200: example(example_results.COMPARISON),
        **problems(
            UNAUTHORIZED,
            example_errors.NO_JOB,
            example_errors.NOT_COMPARABLE,
            BAD_PATH,
            example_errors.SAME_JOB,
            instance=f"{example_specs.JOB_PATH}/compare/{example_specs.OTHER_JOB_ID}",
        ),
    },
)
@transaction
def compare_jobs(job_id: UUID, other_id: UUID, work: WorkDep, _: Caller) -> JobComparison:
    """Where the specs differ, and every figure of the two final variants, with whether their intervals overlap.

    Figures of different texts, protocols, items or machines are listed apart, with the reason.
    """
    return compare(work.session, job_id, other_id)
