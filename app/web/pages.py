"""What every page of the dashboard is made with: its templates, who may see it, its headers."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from app.deps import get_caller
from app.web import views
from secateur.about import VERSION
from secateur.contract.errors import Unauthorized
from secateur.contract.jobs import State, Verdict, waiting_in_words
from secateur.contract.numbers import about, clock, count, duration, moment, ratio, size
from secateur.contract.stage_kinds import STAGE_KINDS, doing
from secateur.report.text import parted

POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'none'; form-action 'self'; base-uri 'none'"
)

templates = Environment(
    loader=PackageLoader("app.web"), autoescape=select_autoescape(default=True), undefined=StrictUndefined
)
templates.globals.update(
    version=VERSION,
    size=size,
    count=count,
    clock=clock,
    moment=moment,
    about=about,
    duration=duration,
    ratio=ratio,
    waiting=waiting_in_words,
    now=partial(datetime.now, UTC),
    elapsed=views.elapsed,
    progress=views.progress,
    what=views.what,
    status=views.status,
    use=views.use,
    drawings=views.drawings,
    glyph=views.glyph,
    kinds=STAGE_KINDS,
    states=[state.value for state in State],
    verdicts=[verdict.value for verdict in Verdict],
)

templates.filters["doing"] = doing
templates.filters["parted"] = parted


class LoginNeeded(Exception):
    """A page was asked for without a session."""


async def _page_caller(request: Request) -> str:
    try:
        return await get_caller(request, None)
    except Unauthorized as error:
        raise LoginNeeded from error


PageCaller = Annotated[str, Depends(_page_caller)]


def render(name: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    return HTMLResponse(
        templates.get_template(name).render(**values),
        status_code=status,
        headers={"Content-Security-Policy": POLICY, "Referrer-Policy": "same-origin", "Cache-Control": "no-store"},
    )


def no_such_job(job_id: object, *, locked: bool) -> HTMLResponse:
    """The page in place of a job's where there is none."""
    return render("error.html", status=404, title="No such job", detail=f"There is no job {job_id}.", locked=locked)
