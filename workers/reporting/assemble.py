"""The results of a job's stages → its Report, judged by the gates and annotated in plain words."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from secateur.contract.between import BetweenSizes
from secateur.contract.errors import StageFailed
from secateur.contract.gates import judge
from secateur.contract.jobs import Verdict
from secateur.contract.measurements import Benchmarks
from secateur.contract.planning import Chosen, Corrected, DraftPlanned, Planned, Searched, UnitCosts
from secateur.contract.regression import judge_regressions
from secateur.contract.report import HeldAgainst, Report
from secateur.contract.results import Pruned, Quantised, Recovered, Scores
from secateur.contract.spec import CompressionSpec
from workers.reporting.notes import write_notes
from workers.reporting.target import foreseen_of, target_gate, target_outcome


def assemble(
    *,
    job_id: UUID,
    created_at: datetime,
    spec: CompressionSpec,
    scores: Scores | None,
    planned: Planned | None = None,
    costs: UnitCosts | None = None,
    drafted: DraftPlanned | None = None,
    searched: Searched | None = None,
    chosen: Chosen | None = None,
    pruned: Pruned,
    recovered: Recovered | None,
    between: BetweenSizes | None = None,
    quantised: Quantised | None = None,
    benchmarks: Benchmarks,
    earlier: Report | None = None,
    corrected: Corrected | None = None,
) -> Report:
    """Put a job's results together.

    The variant that the gates judge is the one that the job hands out: the recovered model where there is one,
    else the pruned; models in between and what was quantised stand beside it. `benchmarks.variants` begins with the
    original. `earlier` is the report of the job that the spec's baseline names, if there is one; `corrected` is what
    these results of a second round went by.

    Raises:
        StageFailed: the benchmarks lack the original or the variant to judge.
    """
    final = "pruned" if recovered is None else "recovered"
    names = [measurement.variant for measurement in benchmarks.variants]
    if not names or names[0] != "original" or final not in names:
        raise StageFailed(
            f"the benchmarks hold {', '.join(names) or 'no variant'}; expected the original first, and {final}"
        )
    verdict, gates = judge(spec.judged, benchmarks, variant=final)
    target, outcome = spec.target, None
    if target is not None:
        foreseen = foreseen_of(planned, costs, pruned, corrected=corrected)
        original, handed_out = benchmarks.variants[0], benchmarks.variants[names.index(final)]
        outcome = target_outcome(target, pruned, foreseen, original, handed_out)
        if gate := target_gate(target, outcome):
            gates = [gate, *gates]
            verdict = Verdict.PASSED if gate.passed and verdict is not Verdict.FAILED else Verdict.FAILED
    report = Report(
        job_id=job_id,
        created_at=created_at,
        spec=spec.model_dump(mode="json"),
        model=pruned.model,
        scores=scores,
        pruned=pruned,
        planned=planned,
        costs=costs,
        drafted=drafted,
        searched=searched,
        chosen=chosen,
        target=outcome,
        recovered=recovered,
        between=between,
        quantised=quantised,
        benchmarks=benchmarks,
        final_variant=final,
        verdict=verdict,
        gates=gates,
    )
    if spec.baseline is not None and (earlier is not None or spec.baseline.required):
        regressions = judge_regressions(spec.baseline, spec.gates.judge, report, earlier)
        verdict = (
            Verdict.FAILED
            if verdict is Verdict.FAILED or not all(gate.passed for gate in regressions)
            else Verdict.PASSED
        )
        held = None if earlier is None else HeldAgainst(job_id=earlier.job_id, created_at=earlier.created_at)
        changes = {"gates": [*gates, *regressions], "verdict": verdict, "baseline": held}
        report = report.model_copy(update=changes)
    return report.model_copy(update={"notes": write_notes(report)})
