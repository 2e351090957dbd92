"""The dashboard's pages of sweeps: the list, and one sweep as it goes, its points held against each other so far."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from app.deps import SettingsDep, WorkDep, transaction
from app.http import cursor as cursors
from app.services import sweep_reports
from app.services import sweeps as service
from app.services.work import Work
from app.web.pages import PageCaller, render
from secateur.contract.errors import NotFound
from secateur.contract.jobs import State
from secateur.contract.sweep import words_among
from secateur.contract.sweep_report import SweepReport
from secateur.report.plot_pareto import pareto
from secateur.report.plot_throughput import throughput
from secateur.report.sweep_forms import HTML, SWEEP_FORMS
from secateur.report.sweep_table import sweep_table
from secateur.report.sweep_words import saved_in_words, verdict_in_words

router = APIRouter(prefix="/ui/sweeps", include_in_schema=False)


@router.get("")
@transaction
def sweeps_page(
    work: WorkDep,
    settings: SettingsDep,
    _: PageCaller,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
) -> HTMLResponse:
    """Sweeps, newest first."""
    page, shown = service.list_sweeps(work.session, cursor=cursor, limit=25)
    return render(
        "sweeps.html",
        sweeps=shown,
        varied={row.id: _varied(row.changes) for row in page.sweeps},
        older=cursors.encode(page.sweeps[-1].id) if page.has_more else None,
        locked=bool(settings.api_keys),
    )


@router.get("/{sweep_id}/live")
@transaction
def live_part(sweep_id: UUID, work: WorkDep, _: PageCaller) -> HTMLResponse:
    """What of a sweep's page changes as it goes; the page fetches it when its stream tells of a change."""
    try:
        return render("_sweep.html", **_standing(work, sweep_id))
    except NotFound as error:
        return render("error.html", status=404, title="No such sweep", detail=error.detail, locked=False)


@router.get("/{sweep_id}")
@transaction
def sweep_page(sweep_id: str, work: WorkDep, settings: SettingsDep, _: PageCaller) -> HTMLResponse:
    """One sweep: its points as they go, and what came of them."""
    locked = bool(settings.api_keys)
    try:
        standing = _standing(work, UUID(sweep_id))
    except (ValueError, NotFound):
        detail = f"There is no sweep {sweep_id}."
        return render("error.html", status=404, title="No such sweep", detail=detail, locked=locked)
    return render(
        "sweep.html",
        **standing,
        page=HTML,
        forms=[form for form in SWEEP_FORMS.values() if form is not HTML],
        locked=locked,
    )


def _standing(work: Work, sweep_id: UUID) -> dict[str, Any]:
    sweep = service.shown(work.session, sweep_id)
    try:
        report = sweep_reports.report(work.session, sweep_id)
    except NotFound:  # no point has a report yet
        report = None
    return {
        "sweep": sweep,
        "states": {state.value: sweep.counts[state] for state in State if sweep.counts[state]},
        "varied": _varied([point.changes for point in sweep.points]),
        "words": {
            point.place: words
            for point, words in zip(sweep.points, words_among([point.changes for point in sweep.points]), strict=True)
        },
        "report": report,
        "verdict": verdict_in_words(report) if report else "",
        "saved": saved_in_words(report) if report else "",
        "plot": pareto(report) if report else None,
        "panels": throughput(report) if report else [],
        **_compared(report),
    }


def _compared(report: SweepReport | None) -> dict[str, Any]:
    """The columns of the two figures that points are held against each other by, and the row of each point's place.

    The page has no room for more; all stand in the report.
    """
    if report is None:
        return {"columns": [], "rows": {}}
    table, axes = sweep_table(report), (report.x.metric, report.y.metric)
    shown = [place for place, column in enumerate(table.columns) if column.key in axes]
    return {
        "columns": [table.columns[place] for place in shown],
        "rows": {row.point.place: (row, [row.cells[place] for place in shown]) for row in table.rows},
    }


def _varied(changes: list[dict[str, Any]]) -> str:
    """Which fields differ: "pruning.ratio, scoring.criterion"."""
    return ", ".join(dict.fromkeys(name for change in changes for name in change)) or "nothing"
