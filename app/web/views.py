"""What the dashboard's pages show, computed from rows and reports: no HTML, no requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup

from app.db.rounds import of_what_is_handed_out
from app.db.tables.jobs import Job, Stage
from secateur.contract.jobs import State
from secateur.contract.measurements import Benchmarks
from secateur.contract.numbers import PERCENT, duration, plain
from secateur.contract.report import Report
from secateur.contract.results import LossPoint, Pruned, Recovered
from secateur.contract.stage_kinds import BENCHMARK, PRUNE, RECOVER, STAGE_KINDS
from secateur.contract.use import StageUse, most_in_words, now_in_words
from secateur.report.loading import ways_to_load
from secateur.report.picture import LegendEntry, Picture
from secateur.report.plot_loss import curve
from secateur.report.sparkline import sparkline
from secateur.report.text import block_list, one_line, plural
from secateur.report.way import Way
from secateur.schemas.jobs import JobSummary

LEAST_SHOWN = 2.0  # seconds of a step before its rest is judged by them


def drawings(picture: Picture) -> list[Markup]:
    """Its drawings, fit for a page: svg.py escapes every text and attribute that it writes."""
    return [Markup(drawing) for drawing in picture.drawings]


def glyph(entry: LegendEntry) -> Markup:
    """The small drawing of a legend's mark."""
    return Markup(entry.glyph)


def running_loss(told: Sequence[Mapping[str, Any]]) -> Picture | None:
    """The loss so far, from what the stage told of each step; one that was done anew counts once."""
    points = {p["step"]: LossPoint.model_validate(p) for p in told if {"step", "loss", "learning_rate"} <= p.keys()}
    chosen = [points[step] for step in sorted(points)]
    return curve(chosen, resumed=[], caption="Each point is the mean since the last one.")


def status(stage: Stage, job: Job) -> str:
    """What became of a stage, in words: one that never began was not run, for a reason, and was not cancelled."""
    if stage.state is not State.CANCELLED or stage.started_at is not None:
        return stage.state.value
    failed = next((other for other in job.stages if other.state is State.FAILED), None)
    if failed is not None:
        return f"not run, since {STAGE_KINDS[failed.kind].title.lower()} failed"
    return "not run, since the job was cancelled"


def use(stage: Stage) -> str:
    """What a stage uses of its machine, or used at most."""
    known = StageUse.model_validate(stage.use) if stage.use else None
    if stage.state in (State.RUNNING, State.CANCELLING):
        return now_in_words(known) if known else ""
    return "" if stage.started_at is None or stage.finished_at is None else most_in_words(stage.memory, known)


def memory_so_far(told: Sequence[Mapping[str, Any]]) -> Markup:
    """The memory of a running stage at each progress that it told, as a small line; empty before there are two."""
    return Markup(sparkline([data["use"]["memory_bytes"] for data in told if data.get("use")]))


def time_left(told: Sequence[tuple[datetime, Mapping[str, Any]]], now: datetime) -> str:
    """How much longer the step at hand takes, from its progress so far: "about 3 min 05 s left in this step".

    A stage has several steps, each with a total and a unit of its own, so only the newest run of events counts.
    Empty where there is too little to judge by.
    """
    step: list[tuple[datetime, Mapping[str, Any]]] = []
    for moment, data in reversed(told):
        if step and (data["unit"], data["total"]) != (step[0][1]["unit"], step[0][1]["total"]):
            break
        if step and data["done"] > step[0][1]["done"]:  # the same step of another model
            break
        step.insert(0, (moment, data))
    if len(step) < 2:
        return ""
    (begun, first), (last, newest) = step[0], step[-1]
    done, taken = newest["done"] - first["done"], (last - begun).total_seconds()
    rest = newest["total"] - newest["done"]
    if done <= 0 or rest <= 0 or taken < LEAST_SHOWN:
        return ""
    left = rest * taken / done - (now - last).total_seconds()
    return f"about {duration(max(1.0, round(left)))} left in this step"


def ways(job: Job) -> list[Way]:
    """How to fetch the model that the job hands out and load it; empty until the last stage that makes one is done."""
    number, stages = of_what_is_handed_out(job)
    results = {stage.kind: stage.result for stage in stages if STAGE_KINDS[stage.kind].checkpoint}
    if PRUNE.name not in results or any(result is None for result in results.values()):
        return []
    recovered = results.get(RECOVER.name)
    made = next((stage.result for stage in stages if stage.kind == BENCHMARK.name), None)
    final = "recovered" if recovered else "pruned"
    variants = Benchmarks.model_validate(made, extra="ignore").variants if made else []
    return ways_to_load(
        job.id,
        Pruned.model_validate(results[PRUNE.name]),
        Recovered.model_validate(recovered) if recovered else None,
        spec=job.spec,
        measured=next((variant for variant in variants if variant.variant == final), None),
        number=number,
    )


def search(typed: str) -> tuple[dict[str, str], str | None]:
    """(Labels, other words) of a search: each `name=value` is a label, and the rest is of the model or the id."""
    words = typed.replace("\0", "").split()
    labels = dict(word.split("=", 1) for word in words if "=" in word.lstrip("="))
    return labels, " ".join(word for word in words if "=" not in word.lstrip("=")) or None


def link(path: str, chosen: Mapping[str, str | None], **changed: str | None) -> str:
    """An address with what is chosen, and what a link changes of it; None and "" are left out."""
    query = {name: value for name, value in {**chosen, **changed}.items() if value}
    return f"{path}?{urlencode(query)}" if query else path


def samples(reports: Sequence[Report]) -> list[tuple[str, list[str]]]:
    """(Prompt, what each job's final variant answered) of the prompts that all have."""
    answers = []
    for report in reports:
        final = next((one for one in report.benchmarks.variants if one.variant == report.final_variant), None)
        answers.append({sample.prompt: sample.text for sample in final.samples} if final else {})
    first, *others = answers
    return [(prompt, [one[prompt] for one in answers]) for prompt in first if all(prompt in one for one in others)]


def names_apart(reports: Sequence[Report], labels: Sequence[Mapping[str, str]]) -> list[str]:
    """A short name for each of some jobs: the end of its id, with what its labels and its model tell it apart by."""
    keys = list(dict.fromkeys(name for one in labels for name in one))
    differ = [key for key in keys if len({one.get(key) for one in labels}) > 1]
    models = len({report.model.id for report in reports}) > 1
    names = []
    for report, of in zip(reports, labels, strict=True):
        told = [f"…{report.job_id.hex[-8:]}", *([report.model.id] if models else [])]
        names.append(one_line(", ".join([*told, *(f"{key}={of[key]}" for key in differ if key in of)]), limit=80))
    return names


def elapsed(start: datetime | None, stop: datetime | None) -> str:
    """Between two times, or until now."""
    return "" if start is None else duration(max(0.0, ((stop or datetime.now(UTC)) - start).total_seconds()))


def progress(job: JobSummary) -> float:
    """How much of the job is done, each stage weighing the same: 0 to 1."""
    done = 0.0
    for stage in job.stages:
        if stage.state is State.SUCCEEDED:
            done += 1
        elif stage.state is State.RUNNING and stage.progress and stage.progress.total:
            done += min(1.0, stage.progress.done / stage.progress.total)
    return done / max(1, len(job.stages))


def what(spec: dict[str, Any]) -> str:
    """What the job does to the model, in a few words: "6 blocks by perplexity, lora"."""
    pruning, scoring, recovery = spec.get("pruning", {}), spec.get("scoring", {}), spec.get("recovery", {})
    if pruning.get("drop") and pruning.get("kind") != "depth":
        words = ", ".join(map(str, pruning["drop"]))
    elif pruning.get("units"):
        words = f"{plural(pruning['units'], 'half', 'halves')} of blocks by {pruning.get('kind')}"
    elif pruning.get("kind") == "experts":
        asked = pruning.get("experts")
        share = plural(asked, "expert") if asked else f"{PERCENT.typed(pruning.get('ratio', 0))} of the experts"
        words = f"{share} by {pruning.get('criterion')}"
    elif pruning.get("kind") == "vocabulary":
        words = f"{plural(pruning.get('tokens', 0), 'token')} left"
    elif pruning.get("drop"):
        words = f"block{'s' if len(pruning['drop']) > 1 else ''} {block_list(pruning['drop'])}"
    elif pruning.get("blocks"):
        words = f"{plural(pruning['blocks'], 'block')} by {scoring.get('criterion')}"
    elif pruning.get("target"):
        figure, asked = next((name, value) for name, value in pruning["target"].items() if value is not None)
        method = scoring.get("criterion") if pruning.get("kind") == "depth" else pruning.get("kind")
        words = f"as much as {figure.replace('_', ' ')} {plain(asked)} takes by {method}"
    elif pruning.get("constraints"):
        words = f"as much as the constraints allow by {scoring.get('criterion')}"
    elif pruning.get("maximise"):
        words = f"as many blocks as make the best draft by {scoring.get('criterion')}"
    elif pruning.get("kind") == "depth":
        words = f"{PERCENT.typed(pruning.get('ratio', 0))} of the blocks by {scoring.get('criterion')}"
    else:
        words = f"{PERCENT.typed(pruning.get('ratio', 0))} by {pruning.get('kind')}"
    kind = recovery.get("kind")
    return words if kind in (None, "none") else f"{words}, then {kind}"
