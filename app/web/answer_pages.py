"""The dashboard's playground: a prompt to the models of one job, and what each answers, side by side as it comes."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from app.db import jobs as job_rows
from app.deps import SettingsDep, WorkDep, transaction
from app.services import answers as service
from app.web.pages import PageCaller, no_such_job, render
from secateur.contract.errors import Conflict, NotFound
from secateur.contract.questions import MOST_CHARACTERS, MOST_TOKENS, Question

SHOWN = 10  # of the last questions

router = APIRouter(prefix="/ui/jobs/{job_id}/playground", include_in_schema=False)


@router.get("")
@transaction
def playground_page(job_id: str, work: WorkDep, settings: SettingsDep, _: PageCaller) -> HTMLResponse:
    """The form, with room for each model's answer, and the last questions."""
    locked = bool(settings.api_keys)
    try:
        job = job_rows.get(work.session, UUID(job_id))
    except (ValueError, NotFound):
        return no_such_job(job_id, locked=locked)
    try:
        if not settings.playground:
            raise Conflict(service.OFF)
        variants = service.variants_of(job)
    except Conflict as error:
        detail = f"{error.detail[:1].upper()}{error.detail[1:]}."
        return render("error.html", status=409, title="Nobody to ask", detail=detail, locked=locked)
    last = service.answers_of(work, job.id, limit=SHOWN)
    unanswered = next((one for one in last if not one.state.terminal), None)
    return render(
        "playground.html",
        job=job,
        variants=variants,
        chosen=unanswered.question.variants if unanswered else service.usual(variants),
        usual=Question(prompt="-"),
        most_characters=MOST_CHARACTERS,
        most_tokens=MOST_TOKENS,
        unanswered=unanswered,
        earlier=[one for one in last if one.state.terminal],
        locked=locked,
    )
