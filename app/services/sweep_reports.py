"""The report of a sweep, made of those of its jobs whenever it is asked for: it may be read while others still run."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.orm import Session

from app.db import sweeps
from app.db.sweeps import DoneStage, PointRow
from secateur.contract.errors import FieldError, InvalidInput, NotFound
from secateur.contract.report import Report
from secateur.contract.sweep_report import Shared, SweepReport
from secateur.contract.sweep_results import PointSoFar, usual_pair
from secateur.report.sweep_assembly import assemble_sweep
from secateur.schemas.sweeps import SweepVerdict


def report(session: Session, sweep_id: UUID, *, x: str | None = None, y: str | None = None) -> SweepReport:
    """What its points have measured so far, held against each other by these two metrics, or by the usual ones.

    Raises:
        NotFound: there is no such sweep, or no point of it has a report.
        InvalidInput: the two are the same.
    """
    sweep = sweeps.get(session, sweep_id)
    rows = sweeps.points(session, sweep_id)
    reports = {job_id: Report.model_validate(body) for job_id, body in sweeps.reports(session, sweep_id).items()}
    if not reports:
        raise NotFound(_none_yet(sweep_id, rows))
    so_far = [
        PointSoFar(
            row.place,
            sweep.changes[row.place],
            row.job_id,
            row.state,
            str((row.problem or {}).get("detail", "")),
            reports.get(row.job_id),
        )
        for row in rows
    ]
    usual_x, usual_y = usual_pair(so_far)
    x, y = x or usual_x, y or usual_y
    if x == y:
        detail = f"a point has to be judged by two figures, and both are {x}"
        raise InvalidInput(detail, errors=[FieldError("", detail, y, "another metric than x", "query y")])
    standing = sweeps.standings(session, [sweep.id])[sweep.id]
    return assemble_sweep(
        so_far,
        x=x,
        y=y,
        sweep_id=sweep.id,
        created_at=sweep.created_at,
        state=standing.state,
        verdict=standing.verdict,
        model=sweep.model_id,
        labels=sweep.labels,
        gates=sweep.gates,
        shared=_shared(sweeps.done_stages(session, sweep.id)),
    )


def verdict(session: Session, sweep_id: UUID) -> SweepVerdict:
    """What the gates say of the whole sweep. Raises NotFound."""
    standing = sweeps.standings(session, [sweep_id])[sweep_id]
    try:
        found = report(session, sweep_id)
    except NotFound as error:
        sweeps.get(session, sweep_id)
        return SweepVerdict(
            sweep_id=sweep_id, state=standing.state, verdict=standing.verdict, recommended=None, why=error.detail
        )
    return SweepVerdict(
        sweep_id=sweep_id,
        state=found.state,
        verdict=found.verdict,
        recommended=None if found.recommended is None else found.point(found.recommended),
        why=found.why,
    )


def _shared(stages: list[DoneStage]) -> list[Shared]:
    kinds = dict.fromkeys(stage.kind for stage in stages)
    return [
        Shared(
            kind=kind,
            computed=sum(stage.kind == kind and not stage.taken_over for stage in stages),
            taken_over=sum(stage.kind == kind and stage.taken_over for stage in stages),
            seconds_saved=sum(stage.seconds for stage in stages if stage.kind == kind and stage.taken_over),
        )
        for kind in kinds
    ]


def _none_yet(sweep_id: UUID, rows: list[PointRow]) -> str:
    if not all(row.state.terminal for row in rows):
        return f"no point of sweep {sweep_id} has a report yet"
    problem = next((row.problem for row in rows if row.problem and row.problem.get("detail")), None)
    return f"no point of sweep {sweep_id} has a report" + (f": {problem['detail']}" if problem else "")
