"""The dashboard: jobs, one job as it happens, and a form for a new one.

Pages are rendered here and kept live by event streams. Everything that their buttons do, they do by the public API.
Nothing is loaded from elsewhere.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import APIRouter, FastAPI, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from pydantic import ValidationError

from app.db import artifacts as artifact_rows
from app.db import events as event_rows
from app.db import jobs as job_rows
from app.db import reports as report_rows
from app.db.tables.jobs import Job
from app.deps import SettingsDep, WorkDep, caller_of, transaction
from app.http import cursor as cursors
from app.http.hosts import SESSION_COOKIE
from app.services import datasets as dataset_service
from app.services import jobs as service
from app.services import results
from app.services.comparison import comparable
from app.services.dashboard_sessions import close_session, open_session
from app.services.estimates import estimate
from app.services.local_models import local_models
from app.services.queue import place_of
from app.services.shortest_spec import shortest
from app.services.workers import list_workers
from app.settings import Settings
from app.web import answer_pages, dataset_pages, sweep_pages, views
from app.web.job_figures import JobFigures
from app.web.job_order import NEWEST, JobOrder
from app.web.pages import LoginNeeded, PageCaller, no_such_job, render
from secateur.contract.comparison import compare_reports
from secateur.contract.errors import Conflict, NotFound, Unauthorized
from secateur.contract.jobs import State, Verdict
from secateur.contract.report import Report
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import REPORT
from secateur.report.comparison import figure_rows, spec_rows
from secateur.report.figures import headlines
from secateur.report.forms import FORMS, HTML, ReportForm
from secateur.report.gates import verdict_in_words
from secateur.report.next_steps import next_steps
from secateur.report.page_style import TABS
from secateur.report.plot_compared import compared as compared_plots
from secateur.report.plot_importance import importance
from secateur.report.plot_style import STYLE
from secateur.report.words import figures_in_words
from secateur.schemas.jobs import with_specs

STATIC = Path(__file__).parent / "static"
LOG_LINES = 300  # shown when the page opens; the whole log is a link away
LOG_EVENTS = 3000  # among so many last events they are looked for
LOSS_POINTS = 400  # of a running training; more cannot be told apart
STEP_EVENTS = 400  # among so many last events is the progress by which the rest of a step is judged

LISTED = {"speedup": "Speedup", "kl": "KL"}  # metrics that have a column in the list
MOST_COMPARED = 5
_figures = JobFigures()

open_router = APIRouter(include_in_schema=False)
router = APIRouter(prefix="/ui", include_in_schema=False)


@open_router.get("/static/plot.css")
def plot_style() -> Response:
    """The style that plots have in reports too."""
    return Response(STYLE, media_type="text/css")


@open_router.get("/static/tabs.css")
def tabs_style() -> Response:
    """The style that tabs have in reports too."""
    return Response(TABS, media_type="text/css")


# --- coming in ----------------------------------------------------------------------------------------------------


@open_router.get("/")
def home() -> Response:
    return RedirectResponse("/ui", status_code=307)


@open_router.get("/login")
def login_page() -> HTMLResponse:
    return render("login.html", wrong=False)


@open_router.post("/login")
@transaction
def login(
    request: Request, settings: SettingsDep, work: WorkDep, key: Annotated[str, Form(max_length=500)]
) -> Response:
    """A cookie for the key: it is sent to this site alone, and no script can read it."""
    try:
        caller_of(settings, key.strip())
    except Unauthorized:
        return render("login.html", status=401, wrong=True)
    response = RedirectResponse("/ui", status_code=303)
    if settings.api_keys:
        before = request.cookies.get(SESSION_COOKIE)
        response.set_cookie(
            SESSION_COOKIE,
            open_session(work.session, settings, key.strip(), before=before),
            max_age=round(settings.session_hours * 3600),
            httponly=True,
            samesite="strict",
            secure=_comes_by_tls(request, settings),
        )
    return response


@open_router.post("/logout")
@transaction
def logout(request: Request, work: WorkDep) -> Response:
    """The session ends here, and not only in this browser: a copy of its cookie opens nothing afterwards."""
    cookie = request.cookies.get(SESSION_COOKIE)
    if cookie is not None:
        close_session(work.session, cookie)
    response = RedirectResponse("/login", status_code=303)
    response.delete_cookie(SESSION_COOKIE)
    return response


def _comes_by_tls(request: Request, settings: Settings) -> bool:
    """Whether the browser speaks TLS, to this process or to a proxy that stands at the public address."""
    public = urlsplit(settings.public_url or "")
    return request.url.scheme == "https" or (public.scheme == "https" and request.url.hostname == public.hostname)


# --- pages --------------------------------------------------------------------------------------------------------


@router.get("")
@transaction
def jobs_page(
    work: WorkDep,
    settings: SettingsDep,
    _: PageCaller,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
    status: State | None = None,
    verdict: Verdict | None = None,
    q: Annotated[str, Query(max_length=200)] = "",
    sort: Annotated[str, Query(max_length=40)] = "",
    fragment: bool = False,
) -> HTMLResponse:
    """Jobs, newest first or by a column; as a `fragment`, filters and rows alone, with which the page renews itself."""
    labels, words = views.search(q)
    order = JobOrder.read(sort, list(LISTED))
    usual = not order.written
    page = service.list_jobs(
        work.session,
        cursor=cursor if usual else None,
        limit=25 if usual else NEWEST,
        state=status,
        verdict=verdict,
        model=None,
        labels=labels,
        words=words,
        specs=True,
    )
    jobs = with_specs(page.jobs)
    figures = _figures.of(work.session, [job.id for job in jobs if job.state is State.SUCCEEDED])
    chosen = {
        "sort": order.written,
        "status": status and status.value,
        "verdict": verdict and verdict.value,
        "q": q.strip(),
    }
    return render(
        "_job_list.html" if fragment else "jobs.html",
        jobs=jobs if usual else order.applied(jobs, figures),
        figures=figures,
        order=order,
        of_newest=NEWEST if page.has_more and not usual else None,
        columns=LISTED,
        link=partial(views.link, "/ui", chosen),
        search=q.strip(),
        older=cursors.encode(page.last) if usual and page.has_more and page.last else None,
        counts={state.value: number for state, number in job_rows.count_by_state(work.session).items()},
        chosen_status=status.value if status else None,
        chosen_verdict=verdict.value if verdict else None,
        newest=cursor is None or not usual,
        locked=bool(settings.api_keys),
    )


@router.get("/compare")
@transaction
def compare_page(
    work: WorkDep,
    settings: SettingsDep,
    _: PageCaller,
    job: Annotated[list[UUID], Query(max_length=100)] = [],  # noqa: B006  # FastAPI copies it
) -> HTMLResponse:
    """Two to five jobs side by side, each held against the first."""
    locked = bool(settings.api_keys)
    ids = list(dict.fromkeys(job))
    if not 2 <= len(ids) <= MOST_COMPARED:
        detail = f"Tick two to {MOST_COMPARED} jobs that have succeeded in the list, and compare them."
        return render("error.html", status=422, title="Nothing to compare", detail=detail, locked=locked)
    try:
        first, *others = reports = [comparable(work.session, one) for one in ids]
    except (NotFound, Conflict) as error:
        detail = f"{error.detail[:1].upper()}{error.detail[1:]}."
        return render("error.html", status=error.status, title="Cannot be compared", detail=detail, locked=locked)
    compared = [compare_reports(first, other) for other in others]
    labels = [job_rows.get(work.session, one).labels for one in ids]
    return render(
        "compare.html",
        jobs=[compared[0].job, *(one.other for one in compared)],
        labels=labels,
        spec=[row for row in spec_rows(compared) if not row[0].startswith("/labels/")],  # they have a row of their own
        rows=figure_rows(compared),
        samples=views.samples(reports),
        plots=compared_plots(list(zip(views.names_apart(reports, labels), reports, strict=True))),
        notes=list(dict.fromkeys(note for one in compared for note in one.notes)),
        locked=locked,
    )


@router.get("/new")
@transaction
def new_page(
    work: WorkDep, settings: SettingsDep, _: PageCaller, job: Annotated[str | None, Query(max_length=100)] = None
) -> HTMLResponse:
    """The form, which the browser makes from the catalogue, with what an earlier job was asked for, where one is named.

    The newest data sets are offered by their names.
    """
    locked = bool(settings.api_keys)
    origin, start = None, {}
    if job is not None:
        try:
            origin = job_rows.get(work.session, UUID(job))
            start = shortest(origin.spec)
        except ValidationError:
            detail = "It was asked for in words that this version no longer takes; its page has the spec."
            return render("error.html", status=409, title="Cannot be a start", detail=detail, locked=locked)
        except (ValueError, NotFound):
            return no_such_job(job, locked=locked)
    newest = dataset_service.list_datasets(work, cursor=None, limit=100)
    return render("new.html", datasets=newest.datasets, origin=origin, start=start, locked=locked)


@router.get("/models")
def models_part(settings: SettingsDep, _: PageCaller) -> HTMLResponse:
    """The local models that the form offers, where this host can see what the workers do."""
    return render("_models.html", models=local_models(settings.model_roots) if settings.check_local else [])


@router.post("/estimate")
@transaction
def estimate_part(spec: CompressionSpec, work: WorkDep, _: PageCaller) -> HTMLResponse:
    """What a job of this spec would take, for the form."""
    return render("_estimate.html", estimate=estimate(work, spec))


@router.get("/workers")
@transaction
def workers_page(work: WorkDep, settings: SettingsDep, _: PageCaller, fragment: bool = False) -> HTMLResponse:
    """Who runs the stages; as a `fragment`, the rows alone, with which the page renews itself."""
    workers = list_workers(work.session).data
    return render("_worker_rows.html" if fragment else "workers.html", workers=workers, locked=bool(settings.api_keys))


@router.get("/jobs/{job_id}/live")
@transaction
def live_part(job_id: UUID, work: WorkDep, _: PageCaller) -> HTMLResponse:
    """What of a job's page changes as it runs; the page fetches it when an event comes."""
    try:
        job = job_rows.get(work.session, job_id)
    except NotFound:
        return no_such_job(job_id, locked=False)
    return render("_live.html", job=job, **_moving(work, job))


@router.get("/jobs/{job_id}")
@transaction
def job_page(job_id: str, work: WorkDep, settings: SettingsDep, _: PageCaller) -> Response:
    """One job: its stages as they go, and what came of it."""
    locked = bool(settings.api_keys)
    try:
        job = job_rows.get(work.session, UUID(job_id))
    except (ValueError, NotFound):
        return no_such_job(job_id, locked=locked)
    if job.asked_of is not None:
        return RedirectResponse(f"/ui/jobs/{job.asked_of}/playground", status_code=303)
    files = artifact_rows.list_for(work.session, job.id)
    paths = [file.path for file in files]
    recent = max(0, job.last_event_seq - LOG_EVENTS)
    logs = event_rows.after(work.session, job.id, recent, limit=LOG_EVENTS, types=["log"])[-LOG_LINES:]
    report = report_rows.find(work.session, job.id)
    parsed = Report.model_validate(report.body) if report else None
    scores = results.scores_of(job)

    def published(form: ReportForm) -> str:
        return f"{REPORT.name}/{form.file}"

    return render(
        "job.html",
        job=job,
        **_moving(work, job),
        files=files,
        bytes=sum(file.size for file in files),
        logs=logs,
        report=parsed,
        verdict=verdict_in_words(parsed) if parsed else "",
        headlines=headlines(parsed) if parsed else [],
        next_steps=next_steps(parsed) if parsed else [],
        forms=[form for form in FORMS.values() if parsed and (form.renderer is None or published(form) in paths)],
        page=HTML if published(HTML) in paths else None,
        scores=scores,
        plot=importance(scores) if scores and scores.blocks else None,
        ways=views.ways(job),
        playground=settings.playground and job.state is State.SUCCEEDED,
        locked=locked,
    )


@router.get("/jobs/{job_id}/report")
@transaction
def report_page(job_id: UUID, work: WorkDep, settings: SettingsDep, _: PageCaller) -> HTMLResponse:
    """The whole report, with the way back to its job above it."""
    locked = bool(settings.api_keys)
    try:
        job = job_rows.get(work.session, job_id)
        artifact_rows.get(work.session, job_id, f"{REPORT.name}/{HTML.file}")
    except NotFound:
        return render("error.html", status=404, title="No report", detail=f"There is none of {job_id}.", locked=locked)
    return render("report.html", job=job, forms=[form for form in FORMS.values() if form is not HTML], locked=locked)


def _moving(work: WorkDep, job: Job) -> dict[str, Any]:
    """What running stages tell: loss, newest and so far, how long the step at hand still takes, memory so far."""
    running = [stage.key for stage in job.stages if stage.state is State.RUNNING]
    told = {key: event_rows.metrics_of(work.session, job.id, key, about=LOSS_POINTS) for key in running}
    since, progress = max(0, job.last_event_seq - STEP_EVENTS), ["progress"]
    steps = event_rows.after(work.session, job.id, since, limit=STEP_EVENTS, types=progress) if running else []
    now = datetime.now(UTC)
    return {
        "queue": place_of(work.session, job.id),
        "figures": {
            key: figures_in_words({name: value for name, value in data[-1].items() if name.endswith("loss")})
            for key, data in told.items()
            if data
        },
        "left": {
            key: views.time_left([(step.created_at, step.data) for step in steps if step.stage == key], now)
            for key in running
        },
        "memory": {key: views.memory_so_far([step.data for step in steps if step.stage == key]) for key in running},
        "loss": views.running_loss([point for data in told.values() for point in data]),
    }


def _to_login(request: Request, exc: Exception) -> Response:
    return RedirectResponse("/login", status_code=303)


def mount(app: FastAPI) -> None:
    """Serve the pages and their static files."""
    app.include_router(open_router)
    app.include_router(router)
    app.include_router(answer_pages.router)
    app.include_router(dataset_pages.router)
    app.include_router(sweep_pages.router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_exception_handler(LoginNeeded, _to_login)
