"""What a job did, step by step, as terms and descriptions: for the page and for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateur.contract import numbers as n
from secateur.contract.catalog import CRITERIA, PRUNERS, QUANTISATIONS, RECOVERIES, Row
from secateur.contract.report import Report
from secateur.contract.results import Environment, Pruned
from secateur.report.joint_words import costs_in_words, joint_rows
from secateur.report.text import block_list, one_line, plural, printable
from secateur.report.words import (
    between_in_words,
    choice_in_words,
    draft_in_words,
    experts_in_words,
    foreseen_in_words,
    gguf_in_words,
    healed_in_words,
    plan_in_words,
    quantised_in_words,
    recovered_file_in_words,
    rounds_in_words,
    schedule_in_words,
    search_in_words,
    units_in_words,
    vocabulary_in_words,
    widths_in_words,
)


def title_of(table: Mapping[str, Row], name: str) -> str:
    """A method's title; its name where no row has it, as of a newer service."""
    row = table.get(name)
    return row.title if row else one_line(name, limit=60)


def work_in_words(report: Report) -> list[tuple[str, str]]:
    """What was done, as terms and descriptions."""
    pruned, scores, recovered = report.pruned, report.scores, report.recovered
    searched = pruned.unit_scores is not None or pruned.joint is not None  # while it pruned
    method = PRUNERS.get(pruned.kind)
    of_a_paper = pruned.widths or pruned.units or pruned.experts or pruned.vocabulary
    source = f" ({method.paper})" if method and of_a_paper else ""
    rows = [("Pruning", f"{title_of(PRUNERS, pruned.kind)}{source}, {n.duration(pruned.seconds)}")]
    if pruned.units:
        rows.append(("Halves of blocks removed", units_in_words(pruned)))
    if pruned.dropped:
        rows.append(("Blocks removed", block_list(pruned.dropped)))
    if report.target:
        rows.append(("Target", report.target.message))
    if report.drafted:
        rows.append(("Depth of the draft", draft_in_words(report.drafted)))
    if report.searched:
        rows.append(("Constraints", search_in_words(report.searched)))
        rows.append(("Foreseen and come", foreseen_in_words(report)))
    if report.chosen:
        rows.append(("Chosen after healing", choice_in_words(report.chosen)))
    if report.planned:
        rows.append(("Plan", plan_in_words(report.planned)))
    if report.corrected:
        rows.append(("Correction", rounds_in_words(report)))
    if report.costs:
        rows.append(("Costs", costs_in_words(report.costs)))
    rows += _search(pruned)
    if pruned.gguf:
        rows.append(("Pruned GGUF file", gguf_in_words(pruned.gguf, number=report.round)))
    if recovered and recovered.gguf:
        rows.append(("Recovered GGUF file", recovered_file_in_words(recovered.gguf, number=report.round)))
    if pruned.widths:
        rows.append(("Left", widths_in_words(pruned)))
    if pruned.experts:
        rows.append(("Left", experts_in_words(pruned.experts)))
    if pruned.vocabulary:
        rows.append(("Left", vocabulary_in_words(pruned.vocabulary)))
    if scores:
        row = CRITERIA.get(scores.criterion)
        paper = f" ({row.paper})" if row else ""
        rows.append(("Criterion", f"{title_of(CRITERIA, scores.criterion)}{paper}, {n.duration(scores.seconds)}"))
        rows.append(("Order, least important first", ", ".join(map(str, scores.order))))
        if scores.protected:
            rows.append(("Protected", block_list(scores.protected)))
    elif pruned.units and not searched:
        rows.append(("Criterion", "none: the halves were named in the job"))
    elif pruned.dropped and not searched:
        rows.append(("Criterion", "none: the blocks were named in the job"))
    if recovered:
        options = {key: value for key, value in recovered.options.items() if key not in ("kind", "text")}
        rows.append(
            (
                "Recovery",
                f"{title_of(RECOVERIES, recovered.kind)}, {recovered.steps:,} steps, "
                f"{n.count(recovered.tokens)} tokens, {n.count(recovered.trainable_parameters)} trainable "
                f"parameters, {n.duration(recovered.seconds)}",
            )
        )
        if recovered.schedule:
            rows.append(("Learning rate", schedule_in_words(recovered.schedule)))
        rows += [(f"Healing of block {cut.block}", healed_in_words(cut)) for cut in recovered.healed.cuts]
        rows += [
            (f"Healing of blocks {group.blocks[0]} to {group.blocks[-1]}", healed_in_words(group))
            for group in recovered.healed.refitted
        ]
        rows.append(("Recovery's options", ", ".join(f"{key} {_option(value)}" for key, value in options.items())))
    for model in report.between.models if report.between else []:
        rows.append((f"In between, {model.name}", between_in_words(model)))
    rows.append(("Measured in", n.duration(report.benchmarks.seconds)))
    rows.append(("Seed", str(report.spec.get("seed", 0))))
    for variant in report.quantised.variants if report.quantised else []:
        how = f"{title_of(QUANTISATIONS, variant.kind)}, {quantised_in_words(variant)}"
        rows.append((f"Quantised as {variant.name}", f"{how}, {n.duration(variant.seconds)}"))
    return [(term, printable(words)) for term, words in rows]


def _search(pruned: Pruned) -> list[tuple[str, str]]:
    """How the halves that went were found."""
    if pruned.joint is not None:
        return joint_rows(pruned.joint)
    scores = pruned.unit_scores
    if scores is None:
        return []
    rows = [
        ("Search", f"{len(scores.details.get('rounds', []))} rounds, {n.duration(scores.seconds)}"),
        ("Order, least important first", ", ".join(scores.order)),
    ]
    if scores.protected:
        rows.append(("Protected", ", ".join(scores.protected)))
    return rows


def _option(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "unset"}[value]
    if isinstance(value, float):
        return n.plain(value)
    return one_line(str(value), limit=80)


def machine_in_words(machine: Environment) -> str:
    """ "AMD EPYC 7B13 (cpu), float32, 2 threads"."""
    return f"{machine.device_name} ({machine.device}), {machine.dtype}, {plural(machine.threads, 'thread')}"
