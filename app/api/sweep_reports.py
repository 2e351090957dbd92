"""A sweep's report, in the form that the client asks for by Accept header or by suffix, and its verdict."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import JSONResponse

from app.api import example_errors
from app.api.example_sweeps import BAD_ID, NO_SWEEP, PATH, REPORT, SWEEP_ID, VERDICT
from app.api.responses import UNAUTHORIZED, example, problems
from app.api.sweeps import TAG
from app.deps import Caller, SettingsDep, WorkDep, transaction
from app.http.negotiation import preferred
from app.services import sweep_reports as service
from secateur.contract.errors import FieldError, InvalidInput, NotFound
from secateur.contract.sweep_report import MetricName, SweepReport
from secateur.report.forms import ReportForm
from secateur.report.sweep_forms import JSON, SWEEP_FORMS
from secateur.schemas.sweeps import SweepVerdict

router = APIRouter(prefix="/sweeps/{sweep_id}", tags=[TAG.name])

_NO_REPORT = NotFound(f"no point of sweep {SWEEP_ID} has a report yet")
_SAME = "a point has to be judged by two figures, and both are kl"
_SAME_METRIC = InvalidInput(_SAME, errors=[FieldError("", _SAME, "kl", "another metric than x", "query y")])
_TEXT = {"schema": {"type": "string"}}

_X = Annotated[
    MetricName | None,
    Query(description="A figure by which points are compared: what is to be gained. Speedup, where it was measured."),
]
_Y = Annotated[
    MetricName | None,
    Query(description="The other one: what it costs. KL divergence, where it was measured."),
]


@router.get(
    "/report",
    summary="Read a sweep's report",
    response_model=SweepReport,
    responses={
        200: {
            "description": "The report.",
            "content": {
                form.media_type: {**_TEXT, "example": form.example} if form.renderer else {"example": REPORT}
                for form in SWEEP_FORMS.values()
            },
        },
        **problems(
            UNAUTHORIZED,
            NO_SWEEP,
            _NO_REPORT,
            example_errors.NOT_ACCEPTABLE,
            BAD_ID,
            _SAME_METRIC,
            instance=f"{PATH}/report",
        ),
    },
)
@transaction
def get_sweep_report(
    sweep_id: UUID,
    work: WorkDep,
    settings: SettingsDep,
    _: Caller,
    x: _X = None,
    y: _Y = None,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Which points are worth having: those that no other is better than in both figures, and the best of those that
    pass all gates, with the reason. It can be read while points still run.

    JSON, an HTML page, Markdown for a pull request, CSV or JUnit XML, by the Accept header; or add a suffix to the
    path: `.json`, `.html`, `.md`, `.csv`, `.junit.xml`.
    """
    types = {JSON.media_type: JSON} | {form.media_type: form for form in SWEEP_FORMS.values()}
    types |= {other: form for form in SWEEP_FORMS.values() for other in form.also}
    form = types[preferred(accept, list(types))]
    response = _written(service.report(work.session, sweep_id, x=x, y=y), form, settings.public_url)
    response.headers["Vary"] = "Accept"
    return response


def _with_suffix(form: ReportForm) -> Callable[..., Any]:
    """The operation for the suffix of one form."""

    def get_sweep_report_form(
        sweep_id: UUID, work: WorkDep, settings: SettingsDep, _: Caller, x: _X = None, y: _Y = None
    ) -> Response:
        return _written(service.report(work.session, sweep_id, x=x, y=y), form, settings.public_url)

    get_sweep_report_form.__name__ = f"get_sweep_report_{form.name}"
    return transaction(get_sweep_report_form)


for _form in SWEEP_FORMS.values():
    router.add_api_route(f"/{_form.file}", _with_suffix(_form), include_in_schema=False)


def _written(report: SweepReport, form: ReportForm, public_url: str | None) -> Response:
    if form.renderer is None:
        return JSONResponse(report.model_dump(mode="json"))
    text: str = import_module(form.renderer).render(report, public_url=public_url)
    return Response(text.encode(), media_type=f"{form.media_type}; charset=utf-8")


@router.get(
    "/verdict",
    summary="Read a sweep's verdict",
    responses={200: example(VERDICT), **problems(UNAUTHORIZED, NO_SWEEP, BAD_ID, instance=f"{PATH}/verdict")},
)
@transaction
def get_sweep_verdict(sweep_id: UUID, work: WorkDep, _: Caller) -> SweepVerdict:
    """Whether a point passes all gates, which one is recommended, and why. `none` before the end."""
    return service.verdict(work.session, sweep_id)
