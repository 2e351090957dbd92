"""What was done to a model, in words that every form of its report shares."""

from __future__ import annotations

from collections.abc import Mapping

from secateur.contract import numbers as n
from secateur.contract.between import ModelBetween
from secateur.contract.measurements import RECOVERED_FILE
from secateur.contract.metric_row import CHANGE
from secateur.contract.planning import (
    Candidate,
    Chosen,
    DraftPlanned,
    Planned,
    Searched,
    TimedDepth,
    TriedDraft,
    UnitCosts,
)
from secateur.contract.readings import text_amount
from secateur.contract.report import Report
from secateur.contract.results import (
    HealedCut,
    KeptExperts,
    KeptVocabulary,
    Pruned,
    PrunedFile,
    QuantisedVariant,
    RefittedBlocks,
    Schedule,
)
from secateur.contract.rounds import FIRST, key_in
from secateur.contract.stage_kinds import PRUNE, RECOVER
from secateur.contract.sub_blocks import HALVES
from secateur.contract.target_figures import TARGET_FIGURES
from secateur.report.text import block_list, listed, one_line, plural

_HALF_WORDS = {"attention": "attention", "mlp": "MLP"}


def change_in_words(report: Report) -> str:
    """What was removed: "6 of 30 blocks removed", "heads and neurons removed from 30 blocks"."""
    pruned = report.pruned
    if pruned.units:
        total = len(HALVES) * pruned.model.blocks
        return f"{len(pruned.units)} of {total} halves of blocks removed ({_halves_counted(pruned)})"
    if pruned.dropped:
        return f"{len(pruned.dropped)} of {plural(pruned.model.blocks, 'block')} removed"
    if pruned.experts:
        experts, blocks = pruned.experts, plural(len(pruned.experts.mixtures), "block")
        return f"{experts.before - experts.after} of {plural(experts.before, 'expert')} removed in {blocks}"
    if pruned.vocabulary:
        kept = pruned.vocabulary
        return f"{kept.before - kept.after:,} of {plural(kept.before, 'token')} removed"
    return f"heads and neurons removed in {plural(pruned.model.blocks, 'block')}"


def schedule_in_words(schedule: Schedule) -> str:
    """What the learning rate did: "up to 0.0002 in 10 of 128 steps, then a cosine fall"."""
    fall = f"then a {schedule.shape} fall"
    if schedule.reached < schedule.learning_rate:
        fall = f"of which {n.plain(schedule.reached, 3)} was reached"
    warmup = f"{schedule.warmup_steps:,} of {plural(schedule.steps, 'step')}"
    return f"up to {n.plain(schedule.learning_rate)} in {warmup}, {fall}"


def healed_in_words(healed: HealedCut | RefittedBlocks) -> str:
    """What healing did before a cut, or after it: "taken, KL 2.04 → 1.18 on held-out samples"."""
    what = "taken," if healed.folded else "left as it was, since the best change gave"
    if healed.folded and isinstance(healed, HealedCut) and healed.neurons:
        what = f"taken with {plural(healed.neurons, 'neuron')} of removed blocks,"
    return f"{what} KL {n.significant(healed.kl_before)} → {n.significant(healed.kl_after)} on held-out samples"


def timed_runs(found: Planned | UnitCosts) -> str:
    """ "12 runs each", and how much of each was timed where it was not all: "12 runs each of 16 in 128 tokens"."""
    runs = f"{plural(found.runs, 'run')} each"
    sampled = found.timed_tokens is not None and found.timed_tokens < found.output_tokens - 1
    return f"{runs} of {found.timed_tokens} in {found.output_tokens} tokens" if sampled else runs


def plan_in_words(planned: Planned) -> str:
    """How the number of blocks was found: "1.34× (1.30 to 1.38) without 8 blocks … Chosen: 7, …"."""
    form = TARGET_FIGURES[planned.figure].format

    def shown(depth: TimedDepth) -> str:
        span = form.span(depth.low, depth.high)
        return form.write(depth.value) + (f" ({span})" if span else "")

    tried = ", ".join(f"{shown(depth)} without {depth.removed}" for depth in planned.tried)
    again = f", in place of {planned.corrected_from}" if planned.corrected_from is not None else ""
    return (
        f"{tried} blocks; by these a block is {n.percent(planned.per_block)} of the original. Chosen{again}: "
        f"{planned.removed}, {shown(planned.predicted)} by the fit and {shown(planned.confirmed)} as measured, "
        f"{timed_runs(planned)}, {n.duration(planned.seconds)}"
    )


def rounds_in_words(report: Report) -> str:
    """Both rounds of a job with a target, or why there was one, and which of them is handed out."""
    corrected = report.corrected
    assert corrected is not None, "asked where there was a correction"
    if not report.rounds:
        return corrected.message
    told = "; ".join(f"round {number}: {outcome.message}" for number, outcome in enumerate(report.rounds, start=1))
    return f"{corrected.message}. {told}. Round {report.round} is handed out"


def search_in_words(searched: Searched) -> str:
    """How many blocks the constraints allow, and by which depths that was found."""
    limits = listed([f"{name} {n.plain(limit)}" for name, limit in searched.limits.items()])
    tried = "; ".join(
        f"{depth.removed}: KL {_spread(n.NUMBER, depth.kl, depth.kl_low, depth.kl_high)}, top-1 agreement "
        f"{_spread(n.PERCENT, depth.top1_agreement, depth.top1_agreement_low, depth.top1_agreement_high)}"
        for depth in searched.tried
    )
    how = "healed" if searched.healed else "as they are left"
    return (
        f"{limits}: {plural(searched.removed, 'block')} can go. Depths tried, {how}, on {searched.judged_tokens:,} "
        f"held-out tokens of {one_line(searched.text.description)}, in {n.duration(searched.seconds)}: {tried}"
    )


def choice_in_words(chosen: Chosen) -> str:
    """Which set was taken after healing, and which by the criterion alone; and all that were looked at."""
    taken, own = chosen.taken, chosen.own
    same = "as by the criterion alone"
    if taken != own:
        same = f"where the criterion alone takes {block_list(own.blocks)}"
    sets = "; ".join(_candidate_in_words(candidate, chosen.steps) for candidate in chosen.candidates)
    return (
        f"blocks {block_list(taken.blocks)}, {same}. {plural(len(chosen.candidates), 'set')} healed on "
        f"{chosen.fitted_tokens:,} tokens of {one_line(chosen.text.description)} and judged on "
        f"{chosen.judged_tokens:,} more, in {n.duration(chosen.seconds)}: {sets}"
    )


def _candidate_in_words(candidate: Candidate, steps: int | None) -> str:
    """ "13–18 (run): KL 0.879 pruned, 0.274 healed, 0.251 after 40 steps"."""
    kind = {"criterion": "the criterion's own", "run": "run", "swap": "one block swapped"}[candidate.origin]
    figures = f"KL {n.NUMBER.write(candidate.kl_pruned)} pruned, {n.NUMBER.write(candidate.kl_healed)} healed"
    if candidate.kl_distilled is not None:
        figures += f", {n.NUMBER.write(candidate.kl_distilled)} after {plural(steps or 0, 'step')}"
    return f"{block_list(candidate.blocks)} ({kind}): {figures}"


def draft_in_words(drafted: DraftPlanned) -> str:
    """How the depth of a draft was chosen: "6 of 30 blocks go … Expected: 1.21× as it is; 1.34× without 6 …"."""

    def shown(depth: TriedDraft) -> str:
        accepted = _spread(n.PERCENT, depth.acceptance, depth.acceptance_low, depth.acceptance_high)
        return f"{n.ratio(depth.expected)} (accepted {accepted}, cost {n.percent(depth.cost)})"

    tried = "; ".join(f"{shown(depth)} without {depth.removed}" for depth in drafted.tried)
    how = "healed" if drafted.healed else "as they are left"
    return (
        f"{drafted.removed} of {plural(drafted.model.blocks, 'block')} go. Expected of {drafted.tokens} tokens at a "
        f"time, depths {how}, on {drafted.judged_tokens:,} held-out tokens that the target wrote, in "
        f"{n.duration(drafted.seconds)}: {shown(drafted.original)} as it is; {tried}"
    )


def foreseen_in_words(report: Report) -> str:
    """What the search foresaw of the depth that it chose, beside what was measured of the result."""
    searched = report.searched
    assert searched is not None, "asked where there was a search"
    depth = searched.chosen
    final = next(m for m in report.benchmarks.variants if m.variant == report.final_variant)
    worst = max(final.fidelity, key=lambda found: found.kl, default=None)
    came = (
        "nothing was measured"
        if worst is None
        else (
            f"KL {_spread(n.NUMBER, worst.kl, worst.kl_low, worst.kl_high)} and top-1 agreement "
            f"{_spread(n.PERCENT, worst.top1_agreement, worst.top1_agreement_low, worst.top1_agreement_high)} came, on "
            f"{one_line(worst.text.description)}"
        )
    )
    return (
        f"KL {_spread(n.NUMBER, depth.kl, depth.kl_low, depth.kl_high)} and top-1 agreement "
        f"{_spread(n.PERCENT, depth.top1_agreement, depth.top1_agreement_low, depth.top1_agreement_high)} were "
        f"foreseen; {came}"
    )


def _spread(form: n.Format, value: float, low: float | None, high: float | None) -> str:
    span = form.span(low, high)
    return form.write(value) + (f" ({span})" if span else "")


def gguf_in_words(file: PrunedFile, *, number: int = FIRST) -> str:
    """What became of the file that the model came in: "prune/m-pruned.gguf, 98.9 MB → 80.1 MB (−19.0 %), …".

    Args:
        number: of the round that it is of.
    """
    sizes, folder = sizes_in_words(file.bytes_before, file.bytes_after), key_in(PRUNE.name, number)
    return (
        f"{folder}/{one_line(file.path)}, {sizes}, still quantised as it was; of the pruned model, before any recovery"
    )


def recovered_file_in_words(file: PrunedFile, *, number: int = FIRST) -> str:
    """The recovered model as it came: "recover/gguf/m-recovered.gguf, 98.9 MB → 80.1 MB (−19.0 %), …"."""
    sizes = sizes_in_words(file.bytes_before, file.bytes_after)
    what = f"rounded anew after recovery; its own figures are those of {RECOVERED_FILE}"
    if file.relative_error == 0:
        what = "of the very weights of the recovered checkpoint, whose figures are its own"
    return f"{key_in(RECOVER.name, number)}/{one_line(file.path)}, {sizes}, {what}"


def sizes_in_words(before: int, after: int) -> str:
    """ "98.9 MB → 80.1 MB (−19.0 %)"."""
    return f"{n.size(before)} → {n.size(after)} ({CHANGE.write(CHANGE.of(after, before))})"


def counts_in_words(before: int, after: int) -> str:
    """ "134,515,008 → 113,275,008 (−15.8 %)"."""
    return f"{n.count(before)} → {n.count(after)} ({CHANGE.write(CHANGE.of(after, before))})"


def units_in_words(pruned: Pruned) -> str:
    """The halves that are gone: "attention of blocks 3, 5–7; MLP of block 9"."""
    return "; ".join(
        f"{_HALF_WORDS[half]} of block{'s' if len(blocks) > 1 else ''} {block_list(blocks)}"
        for half, blocks in _by_half(pruned).items()
    )


def _halves_counted(pruned: Pruned) -> str:
    """ "5 attention, 2 MLP, 1 block whole"."""
    words = [f"{len(blocks)} {_HALF_WORDS[half]}" for half, blocks in _by_half(pruned).items()]
    if pruned.dropped:
        words.append(f"{plural(len(pruned.dropped), 'block')} whole")
    return ", ".join(words)


def _by_half(pruned: Pruned) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for half in HALVES:
        blocks = [int(unit.partition(".")[0]) for unit in pruned.units if unit.endswith(f".{half}")]
        if blocks:
            found[half] = blocks
    return found


def widths_in_words(pruned: Pruned) -> str:
    """What a width-pruned model has left: "6 heads (2 key-value heads) and 1,200 neurons in each block"."""
    heads, shared, neurons = (
        _range([getattr(width, name) for width in pruned.widths]) for name in ("heads", "key_value_heads", "neurons")
    )
    grouped = "" if heads == shared else f" ({shared} key-value heads)"
    each = "each block" if len(set(pruned.widths)) == 1 else "a block"
    return f"{heads} heads{grouped} and {neurons} neurons in {each}"


def experts_in_words(experts: KeptExperts) -> str:
    """What mixtures have left: "96 of 128 experts in each of 48 blocks, 8 for a token, judged by reap"."""
    blocks = plural(len(experts.mixtures), "block")
    return (
        f"{experts.after} of {plural(experts.before, 'expert')} in each of {blocks}, {experts.per_token} for a token, "
        f"judged by {one_line(experts.criterion)}"
    )


def between_in_words(model: ModelBetween) -> str:
    """ "28 blocks, 127,345,536 parameters: 24, 25 put back; 23 to 29 are the original's as they were, …"."""
    first, last = model.originals
    size = f"{plural(model.blocks, 'block')}, {n.count(model.parameters)} parameters"
    return (
        f"{size}: {block_list(model.put_back)} put back; {first} to {last} are the original's as they were, the others "
        "the recovered model's, and nothing was trained again"
    )


def vocabulary_in_words(kept: KeptVocabulary) -> str:
    """What a vocabulary has left: "24,000 of 49,152 tokens, which are 98.2 % of those in the text that was counted"."""
    return (
        f"{kept.after:,} of {plural(kept.before, 'token')}, which are {n.percent(kept.covered)} of those in the text "
        f"that was counted ({kept.used:,} different ones)"
    )


def quantised_in_words(variant: QuantisedVariant) -> str:
    """How exact it is, and how small: "quantised 79.0 % of the parameters to 8.25 bits each …"."""
    part = variant.quantised_parameters / max(1, variant.quantised_parameters + variant.other_parameters)
    chosen = f", chosen on {text_amount(variant.text)}" if variant.text else ""
    return (
        f"quantised {n.percent(part)} of the parameters to {n.significant(variant.bits_per_weight)} bits each, "
        f"with an error of {n.percent(variant.relative_error)} of their norm{chosen}"
    )


def _range(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def figures_in_words(data: Mapping[str, object]) -> str:
    """What a running stage tells of itself: {"step": 5, "loss": 2.3123} → "step 5, loss 2.312"."""
    return ", ".join(f"{name.replace('_', ' ')} {_told(value)}" for name, value in data.items())


def _told(value: object) -> str:
    if isinstance(value, float):
        return n.plain(value, 4)
    return n.count(value) if isinstance(value, int) and not isinstance(value, bool) else one_line(str(value), limit=60)
