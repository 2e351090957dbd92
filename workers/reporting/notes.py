"""What to mind when reading a report's figures, in words.

A number can be right and still deceive. Perplexity on a text falls when the model is trained on like text, below
the original's even, while the model moves away from what the original knew; a speedup of 3 % means nothing on a
machine that differs by 5 % from itself. So each note is written only where the figures call for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from secateur.contract.jobs import Verdict
from secateur.contract.measurements import RECOVERED_FILE, Fidelity, Measurement, Perplexity
from secateur.contract.numbers import RATIO, moment, percent, ratio, significant
from secateur.contract.options.gates import GATES
from secateur.contract.readings import cell_name
from secateur.contract.report import Report
from secateur.contract.results import TextInfo
from secateur.contract.spec import CompressionSpec
from secateur.report.gates import interval_in_words, quality_was_judged, typed_limit
from secateur.report.text import block_list, listed, one_line, plural
from secateur.report.words import rounds_in_words

FEW_TOKENS = 4096  # below this, a perplexity or a divergence is a hint rather than a figure


def write_notes(report: Report) -> list[str]:
    """All notes that hold for this report, the weightiest first, none of them twice."""
    notes = [note for writer in _WRITERS for note in writer(report)]
    return list(dict.fromkeys(notes))


def measurement(report: Report, variant: str) -> Measurement | None:
    """The measurement of one variant, or None where it was not measured."""
    return next((m for m in report.benchmarks.variants if m.variant == variant), None)


def paired_perplexity(before: Measurement, after: Measurement) -> list[tuple[Perplexity, Perplexity]]:
    """Perplexities of two variants on the same text by the same protocol; others must not be compared."""
    by_text = {(p.text.sha256, p.protocol): p for p in before.perplexity}
    return [(by_text[key], p) for p in after.perplexity if (key := (p.text.sha256, p.protocol)) in by_text]


def _unjudged(report: Report) -> Iterator[str]:
    """A pass on speed and size, which a model that writes nothing but noise has too."""
    if report.verdict is Verdict.PASSED and not quality_was_judged(report):
        apart = CompressionSpec.model_validate(report.spec).changes_vocabulary
        quality = [
            name
            for name, metric in GATES.items()
            if metric.section.quality and not (metric.of_tokens if apart else metric.in_any_tokens)
        ]
        passed = listed([f"`{gate.gate}`" for gate in report.gates])
        yield (
            f"Quality was not judged: the gates that passed ({passed}) are on speed and size, and a model that is good "
            f"for nothing may pass them. Gates on quality are {listed([f'`{name}`' for name in quality])}."
        )


def _taken_over(report: Report) -> Iterator[str]:
    """Figures that an identical benchmark of another job has measured."""
    measured = report.benchmarks
    if measured.job_id is not None and measured.measured_at is not None and measured.job_id != report.job_id:
        yield (
            f"All figures were taken over from job {measured.job_id}, which measured the same models with the same "
            f"settings on this machine on {moment(measured.measured_at)}."
        )


def _no_baseline(report: Report) -> Iterator[str]:
    baseline = CompressionSpec.model_validate(report.spec).baseline
    if baseline is not None and report.baseline is None:
        yield f"The result was held against no earlier job: none with {baseline.in_words} has passed before this one."


def _missed_target(report: Report) -> Iterator[str]:
    if report.target and not report.target.met:
        yield f"The job did not reach its target: {report.target.message}."
        if report.costs:
            yield "Joint pruning has no second round: a job that asks for a little more may reach it."
        if report.corrected and not report.rounds:
            yield f"No second round was begun: {report.corrected.message}."


def _second_round(report: Report) -> Iterator[str]:
    if report.rounds:
        yield f"A second round was begun, since {rounds_in_words(report)}."


def _loader(report: Report) -> Iterator[str]:
    if report.pruned.decilm:
        yield (
            "Some blocks have lost a half, so the checkpoint has the config of DeciLM. transformers loads it with "
            "`trust_remote_code=True`, which runs the file `modeling_secateur.py` that lies beside the weights. vLLM "
            "has a model class of its own for that config; this job did not run it."
        )
    elif report.pruned.needs_loader:
        yield (
            "Plain transformers cannot load this checkpoint, since its config cannot say what its blocks look like. "
            "Load it with the file `modeling_secateur.py` that lies beside the weights."
        )


def _shared_text(report: Report) -> Iterator[str]:
    """Adaptation to a text, which is not recovery. That texts share a source, the benchmarks say themselves."""
    trained = report.recovered.text if report.recovered else None
    if trained is None:
        return
    if any(text.sha256 == trained.sha256 for text in _measured_texts(report)):
        yield "The model was measured on the very tokens that it was trained on: the figures on that text are void."
    original, recovered, pruned = (measurement(report, name) for name in ("original", "recovered", "pruned"))
    if not (original and recovered and pruned):
        return
    for before, after in paired_perplexity(original, recovered):
        if after.value < before.value:
            yield (
                f"On the text {one_line(after.text.description)}, the recovered model's perplexity "
                f"({significant(after.value)}) is below the original's ({significant(before.value)}). "
                "It has adapted to the text; the KL divergence says how far it is from the original."
            )
    perplexities = {after.text.sha256: (before, after) for before, after in paired_perplexity(pruned, recovered)}
    for before_kl, after_kl in _paired_fidelity(pruned, recovered):
        pair = perplexities.get(after_kl.text.sha256)
        if after_kl.kl > before_kl.kl and pair and pair[1].value < pair[0].value:
            yield (
                f"On the text {one_line(after_kl.text.description)}, recovery lowered the perplexity and raised the KL "
                f"divergence from the original, {significant(before_kl.kl)} → {significant(after_kl.kl)} nats: the "
                "model has learned the text and forgotten the original."
            )
        elif after_kl.kl > before_kl.kl:
            yield (
                f"On the text {one_line(after_kl.text.description)}, recovery did not help: the KL divergence from the "
                f"original rose from {significant(before_kl.kl)} to {significant(after_kl.kl)} nats."
            )


def _recovered_file(report: Report) -> Iterator[str]:
    """What rounding took back of a recovery, and that the gates judge the model before it."""
    pruned, recovered, file = (measurement(report, name) for name in ("pruned", "recovered", RECOVERED_FILE))
    if not (pruned and recovered and file):
        return
    if report.gates:
        yield f"The gates judge the recovered checkpoint; `{RECOVERED_FILE}`, which is rounded, has figures of its own."
    alone = {found.text.sha256: found.kl for found in pruned.fidelity}
    for before, after in _paired_fidelity(recovered, file):
        without = alone.get(after.text.sha256)
        lost = (
            ""
            if without is None or before.kl >= without
            else (
                f", which takes back {percent((after.kl - before.kl) / (without - before.kl))} of what recovery gained"
            )
        )
        if after.kl > before.kl:
            yield (
                f"On the text {one_line(after.text.description)}, rounding the recovered model to the types of the "
                f"file that came in raised the KL divergence from the original from {significant(before.kl)} to "
                f"{significant(after.kl)} nats{lost}."
            )


def _self_text(report: Report) -> Iterator[str]:
    if any(p.text.source in ("self", "answers") for variant in report.benchmarks.variants for p in variant.perplexity):
        yield (
            "Perplexity was measured on text that the original wrote itself. That text is the likeliest one under the "
            "original, so the ratio of the two perplexities tells how far the variant has moved from it, and says "
            "little about text that people write."
        )


def _nothing_right(report: Report) -> Iterator[str]:
    original = measurement(report, "original")
    whole = next((score for score in original.generation if score.headline), None) if original else None
    if whole is not None and whole.exact == 0:
        yield (
            f"The original gets none of the {plural(whole.prompts, 'prompt')} of the generation checks right, so exact "
            "match cannot show what was lost. How many texts are the original's own does."
        )


def _speed(report: Report) -> Iterator[str]:
    final = measurement(report, report.final_variant)
    for cell in final.latency if final else []:
        if cell.speedup is None:
            continue
        where = cell_name(cell)
        if cell.speedup.low <= 1 <= cell.speedup.high:
            yield (
                f"At {where} no difference in speed was shown: the interval of the speedup "
                f"({RATIO.span(cell.speedup.low, cell.speedup.high)}) holds 1."
            )
        elif cell.noise is not None and abs(cell.speedup.median - 1) <= cell.noise:
            yield (
                f"At {where} the speedup ({ratio(cell.speedup.median)}) is within the noise of the machine: the "
                f"original timed against itself differs by up to {percent(cell.noise)}."
            )


def _near_gates(report: Report) -> Iterator[str]:
    for gate in report.gates:
        if gate.low is None or gate.high is None or not gate.low < gate.threshold < gate.high:
            continue
        within = f"its limit, {typed_limit(gate)}, lies within the interval of the measured value"
        if gate.passed or gate.judged == gate.value:
            yield (
                f"Gate `{gate.gate}` was a near thing: {within} ({interval_in_words(gate)}), so a repetition may "
                "come out otherwise."
            )
        else:
            yield (
                f"Gate `{gate.gate}` failed because {within} ({interval_in_words(gate)}): that the limit is kept was "
                "not shown. More runs, windows or items make the interval narrower."
            )


def _little_text(report: Report) -> Iterator[str]:
    little = [text for text in _measured_texts(report) if text.samples * text.tokens < FEW_TOKENS]
    for text in little:
        yield (
            f"The text {one_line(text.description)} is a small sample ({text.samples * text.tokens:,} tokens): "
            "read the figures on it with their intervals."
        )


def _choice(report: Report) -> Iterator[str]:
    scores = report.scores
    if scores is None:
        return
    wanted = set(scores.order[: len(scores.drop)])
    spared = sorted(wanted.intersection(scores.protected).difference(scores.drop))
    if spared:
        yield (
            f"By the scores alone {plural(len(spared), 'block')} more would have been removed ({block_list(spared)}); "
            "the rule that protects the first and the last blocks stood against it."
        )


def _healed_choice(report: Report) -> Iterator[str]:
    """Where what the criterion alone takes did not go."""
    chosen = report.chosen
    if chosen is None or chosen.taken == chosen.own:
        return
    taken, own = chosen.taken, chosen.own
    figures = f"{significant(taken.kl_healed)} in place of {significant(own.kl_healed)} once healed"
    if taken.kl_distilled is not None and own.kl_distilled is not None:
        figures = (
            f"{significant(taken.kl_distilled)} in place of {significant(own.kl_distilled)} after healing and "
            f"{plural(chosen.steps or 0, 'step')}"
        )
    yield (
        f"The criterion alone would have removed blocks {block_list(own.blocks)}. The choice after healing removed "
        f"{block_list(taken.blocks)}: KL from the original on {chosen.judged_tokens:,} held-out tokens is {figures}."
    )


def _width(report: Report) -> Iterator[str]:
    if report.pruned.experts:
        yield (
            "Expert pruning saves memory and disk. A token passes as many blocks as before and, unless too few are "
            "left, as many experts, so expect little speedup at small batches."
        )
    elif report.pruned.vocabulary:
        yield (
            "Vocabulary pruning changes no weight that stays. A token is generated faster, as far as the head is a "
            "large part of what is read for it, and the same text takes more tokens: hold bytes of text per second "
            "against each other. Texts unlike the one that was counted take more tokens still."
        )
    elif not report.pruned.dropped and not report.pruned.units:
        yield (
            "Width pruning leaves the number of blocks as it was. At small batches generation is bound by memory "
            "traffic and by the overhead of each block, so expect less speedup than the parameters suggest."
        )


def _stages(report: Report) -> Iterator[str]:
    yield from report.planned.notes if report.planned else []
    yield from report.costs.notes if report.costs else []
    yield from report.pruned.notes
    if report.recovered:
        yield from report.recovered.notes
        if report.recovered.resumed_from:
            steps = listed([f"{step:,}" for step in report.recovered.resumed_from])
            yield f"The training was interrupted and went on from its checkpoint at step {steps}."
    yield from report.between.notes if report.between else []
    yield from report.benchmarks.notes


_WRITERS: tuple[Callable[[Report], Iterator[str]], ...] = (
    _missed_target,
    _second_round,
    _no_baseline,
    _unjudged,
    _taken_over,
    _loader,
    _shared_text,
    _recovered_file,
    _self_text,
    _nothing_right,
    _speed,
    _near_gates,
    _little_text,
    _choice,
    _healed_choice,
    _width,
    _stages,
)


def _measured_texts(report: Report) -> list[TextInfo]:
    """Every text on which quality was measured, once."""
    texts: dict[str, TextInfo] = {}
    for variant in report.benchmarks.variants:
        found = [p.text for p in variant.perplexity] + [f.text for f in variant.fidelity]
        for text in [*found, *(b.text for b in variant.bits_per_byte)]:
            texts.setdefault(text.sha256, text)
    return list(texts.values())


def _paired_fidelity(before: Measurement, after: Measurement) -> list[tuple[Fidelity, Fidelity]]:
    by_text = {f.text.sha256: f for f in before.fidelity}
    return [(by_text[f.text.sha256], f) for f in after.fidelity if f.text.sha256 in by_text]
