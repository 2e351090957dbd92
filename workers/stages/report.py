"""The report stage: the results of the others → the report, in every form that people and pipelines read.

It needs no torch: it reads the other stages' JSON, judges the gates, and writes report.html, report.md,
report.junit.xml and model_card.md beside report.json. The card is that of the checkpoint which the job hands out, with
what was measured; the one inside the checkpoint's folder was written before anything was.
"""

from __future__ import annotations

from importlib import import_module

from secateur.contract.results import Report, with_choice
from secateur.contract.stage_kinds import BENCHMARK, PRUNE, QUANTISE, RECOVER, SCORE
from secateur.report.forms import FORMS
from secateur.whole_files import write_whole
from workers.reporting import model_card
from workers.reporting.assemble import assemble
from workers.stages.context import StageContext


def run(context: StageContext) -> Report:
    """Write the report's files and return it.

    Raises:
        StageFailed: the result of an earlier stage is missing or cannot be read.
    """
    stage = context.stage
    pruned = context.read(PRUNE)
    scoring = stage.spec.scoring.model_dump(mode="json")
    scores = with_choice(context.read(SCORE), pruned, scoring=scoring) if context.has(SCORE) else None
    recovered = context.read(RECOVER) if context.has(RECOVER) else None
    report = assemble(
        job_id=stage.job_id,
        created_at=stage.created_at,
        spec=stage.spec,
        scores=scores,
        pruned=pruned,
        recovered=recovered,
        quantised=context.read(QUANTISE) if context.has(QUANTISE) else None,
        benchmarks=context.read(BENCHMARK),
    )
    url = stage.runtime.public_url
    renderers = {form.file: import_module(form.renderer) for form in FORMS.values() if form.renderer}
    forms = {file: renderer.render(report, public_url=url) for file, renderer in renderers.items()}
    forms["model_card.md"] = model_card.render(pruned=pruned, scores=scores, recovered=recovered, report=report)
    for done, (name, text) in enumerate(forms.items(), start=1):
        write_whole(context.out / name, text.encode())
        context.progress(done, len(forms), "files")
    return report
