"""The report stage: the results of the others → the report, in every form that people and pipelines read.

It needs no torch: it reads the other stages' JSON, judges the gates, and writes report.html, report.md,
report.junit.xml and model_card.md beside report.json. Under `cards/` are the model cards of all checkpoints, with what
was measured, each at the path that it has among the job's files: those inside the checkpoints' folders were written
before anything was measured and never change, and the service hands these out in their place. model_card.md is that of
the checkpoint which the job hands out.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from secateur.contract.report import Report
from secateur.contract.results import with_choice
from secateur.contract.stage_kinds import (
    BENCHMARK,
    CARDS,
    CHOOSE,
    COSTS,
    DRAFT,
    PLAN,
    PRUNE,
    QUANTISE,
    RECOVER,
    REPORT,
    SCORE,
    SEARCH,
    SIZES,
)
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
        planned=context.read(PLAN) if context.has(PLAN) else None,
        costs=context.read(COSTS) if context.has(COSTS) else None,
        drafted=context.read(DRAFT) if context.has(DRAFT) else None,
        searched=context.read(SEARCH) if context.has(SEARCH) else None,
        chosen=context.read(CHOOSE) if context.has(CHOOSE) else None,
        pruned=pruned,
        recovered=recovered,
        between=context.read(SIZES) if context.has(SIZES) else None,
        quantised=context.read(QUANTISE) if context.has(QUANTISE) else None,
        benchmarks=context.read(BENCHMARK),
        earlier=context.read(REPORT) if context.has(REPORT) else None,
    )
    url = stage.runtime.public_url
    renderers = {form.file: import_module(form.renderer) for form in FORMS.values() if form.renderer}
    forms = {file: renderer.render(report, public_url=url) for file, renderer in renderers.items()}
    cards = _cards(report)
    forms["model_card.md"] = cards[f"{(RECOVER if recovered else PRUNE).name}/checkpoint/{model_card.FILE}"]
    forms |= {f"{CARDS}/{path}": card for path, card in cards.items()}
    for done, (name, text) in enumerate(forms.items(), start=1):
        (context.out / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(context.out / name, text.encode())
        context.progress(done, len(forms), "files")
    return report


def _cards(report: Report) -> dict[str, str]:
    """The card of every checkpoint that the job leaves, by its path among the job's files."""
    about: dict[str, Any] = {"pruned": report.pruned, "scores": report.scores, "report": report}
    cards = {f"{PRUNE.name}/checkpoint": model_card.render(**about)}
    if report.recovered:
        about["recovered"] = report.recovered
        cards[f"{RECOVER.name}/checkpoint"] = model_card.render(**about)
    for model in report.between.models if report.between else []:
        cards[f"{SIZES.name}/{model.name}/checkpoint"] = model_card.render(**about, between=model)
    for variant in report.quantised.variants if report.quantised else []:
        if not variant.path.endswith(".gguf"):  # a file, which has no card beside it
            cards[f"{QUANTISE.name}/{variant.path}"] = model_card.render(**about, quantised=variant)
    return {f"{folder}/{model_card.FILE}": card for folder, card in cards.items()}
