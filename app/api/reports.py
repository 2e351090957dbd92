"""A job's report, in the form that the client asks for by Accept header or by suffix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse

from app.api import example_errors, example_results, example_specs
from app.api.artifacts import file_response
from app.api.responses import BAD_PATH, UNAUTHORIZED, problems
from app.api.scores import TAG
from app.db import artifacts as artifact_rows
from app.db.session import unit_of_work
from app.deps import Caller, FactoryDep, StoreDep
from app.http.negotiation import preferred
from app.services import results
from secateur.contract.report import Report
from secateur.contract.stage_kinds import REPORT
from secateur.report.forms import FORMS, JSON, ReportForm

router = APIRouter(prefix="/jobs/{job_id}", tags=[TAG.name])

_TEXT = {"schema": {"type": "string"}}


def _responses(suffix: str = "") -> dict[int | str, dict[str, object]]:
    return {
        200: {
            "description": "The report.",
            "content": {
                form.media_type: {**_TEXT, "example": form.example}
                if form.renderer
                else {"example": example_results.REPORT}
                for form in FORMS.values()
            },
        },
        **problems(
            UNAUTHORIZED,
            example_errors.NO_JOB,
            example_errors.NO_REPORT,
            *([] if suffix else [example_errors.NOT_ACCEPTABLE]),
            BAD_PATH,
            instance=f"{example_specs.JOB_PATH}/report{suffix}",
        ),
    }


@router.get("/report", summary="Read a job's report", response_model=Report, responses=_responses())
def get_report(
    request: Request,
    job_id: UUID,
    factory: FactoryDep,
    store: StoreDep,
    _: Caller,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
    if_none_match: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """JSON, an HTML page, Markdown for a pull request, or JUnit XML with a test case for each gate, by the Accept
    header; or add a suffix to the path: `.json`, `.html`, `.md`, `.junit.xml`."""
    types = {JSON.media_type: JSON} | {form.media_type: form for form in FORMS.values()}  # who does not ask gets JSON
    types |= {other: form for form in FORMS.values() for other in form.also}
    response = _report(job_id, types[preferred(accept, list(types))], request, factory, store, if_none_match)
    response.headers["Vary"] = "Accept"
    return response


def _with_suffix(form: ReportForm) -> Callable[..., Response]:
    """The operation for the suffix of one form."""

    def get_report_form(
        request: Request,
        job_id: UUID,
        factory: FactoryDep,
        store: StoreDep,
        _: Caller,
        if_none_match: Annotated[str | None, Header(include_in_schema=False)] = None,
    ) -> Response:
        return _report(job_id, form, request, factory, store, if_none_match)

    get_report_form.__name__ = f"get_report_{form.name}"
    return get_report_form


for _form in FORMS.values():
    router.add_api_route(f"/{_form.file}", _with_suffix(_form), include_in_schema=False)


def _report(
    job_id: UUID,
    form: ReportForm,
    request: Request,
    factory: FactoryDep,
    store: StoreDep,
    if_none_match: str | None,
) -> Response:
    with unit_of_work(factory) as session:
        report = results.report(session, job_id)
        if form.renderer is None:
            return JSONResponse(report.model_dump(mode="json"))
        artifact = artifact_rows.get(session, job_id, f"{REPORT.name}/{form.file}")
    return file_response(artifact, store, method=request.method, if_none_match=if_none_match)
