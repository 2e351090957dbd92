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

from secateur.contract.planning import Corrected
from secateur.contract.report import Report
from secateur.contract.results import with_choice
from secateur.contract.rounds import FIRST, SECOND, key_in
from secateur.contract.stage_kinds import (
    BENCHMARK,
    CARDS,
    CHOOSE,
    CORRECT,
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
from workers.reporting.two_rounds import in_one
from workers.stages.context import StageContext


def run(context: StageContext) -> Report:
    """Write the report's files and return it.

    Raises:
        StageFailed: the result of an earlier stage is missing or cannot be read.
    """
    stage = context.stage
    corrected = context.read(CORRECT) if context.has(CORRECT) else None
    rounds = [_assembled(context.of_round(FIRST))]
    if corrected is not None and corrected.again:
        rounds.append(_assembled(context.of_round(SECOND), corrected=corrected))
    report = rounds[0] if corrected is None else in_one(rounds, stage.spec, corrected)
    url = stage.runtime.public_url
    renderers = {form.file: import_module(form.renderer) for form in FORMS.values() if form.renderer}
    forms = {file: renderer.render(report, public_url=url) for file, renderer in renderers.items()}
    cards = {path: card for number, each in enumerate(rounds, start=1) for path, card in _cards(each, number).items()}
    final = key_in((RECOVER if report.recovered else PRUNE).name, report.round)
    forms["model_card.md"] = cards[f"{final}/checkpoint/{model_card.FILE}"]
    forms |= {f"{CARDS}/{path}": card for path, card in cards.items()}
    for done, (name, text) in enumerate(forms.items(), start=1):
        (context.out / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(context.out / name, text.encode())
        context.progress(done, len(forms), "files")
    return report


def _assembled(context: StageContext, *, corrected: Corrected | None = None) -> Report:
    """The report of one round."""
    stage = context.stage
    pruned = context.read(PRUNE)
    scoring = stage.spec.scoring.model_dump(mode="json")
    return assemble(
        job_id=stage.job_id,
        created_at=stage.created_at,
        spec=stage.spec,
        scores=with_choice(context.read(SCORE), pruned, scoring=scoring) if context.has(SCORE) else None,
        planned=context.read(PLAN) if context.has(PLAN) else None,
        costs=context.read(COSTS) if context.has(COSTS) else None,
        drafted=context.read(DRAFT) if context.has(DRAFT) else None,
        searched=context.read(SEARCH) if context.has(SEARCH) else None,
        chosen=context.read(CHOOSE) if context.has(CHOOSE) else None,
        pruned=pruned,
        recovered=context.read(RECOVER) if context.has(RECOVER) else None,
        between=context.read(SIZES) if context.has(SIZES) else None,
        quantised=context.read(QUANTISE) if context.has(QUANTISE) else None,
        benchmarks=context.read(BENCHMARK),
        earlier=context.read(REPORT) if context.has(REPORT) else None,
        corrected=corrected,
    )


def _cards(report: Report, number: int) -> dict[str, str]:
    """The card of every checkpoint that a round of the job leaves, by its path among the job's files."""
    prune, recover, sizes, quantise = (key_in(kind.name, number) for kind in (PRUNE, RECOVER, SIZES, QUANTISE))
    about: dict[str, Any] = {"pruned": report.pruned, "scores": report.scores, "report": report}
    cards = {f"{prune}/checkpoint": model_card.render(**about)}
    if report.recovered:
        about["recovered"] = report.recovered
        cards[f"{recover}/checkpoint"] = model_card.render(**about)
    for model in report.between.models if report.between else []:
        cards[f"{sizes}/{model.name}/checkpoint"] = model_card.render(**about, between=model)
    for variant in report.quantised.variants if report.quantised else []:
        if not variant.path.endswith(".gguf"):  # a file, which has no card beside it
            cards[f"{quantise}/{variant.path}"] = model_card.render(**about, quantised=variant)
    return {f"{folder}/{model_card.FILE}": card for folder, card in cards.items()}
