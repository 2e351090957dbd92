"""What a job will take and give, told before it runs: from the model's config and from this installation's own past.

The spec is checked as its submission would be. Nothing is downloaded but the config of a hub model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import ValidationError

from app.db import past_stages, workers
from app.db.past_stages import BenchmarkRow, StageRow
from app.db.tables.workers import Worker
from app.services.check_spec import check_config, look_at_target
from app.services.gguf_config import GgufFile, gguf_file
from app.services.hub_config import HubConfig, hub_config
from app.services.local_files import LocalModelInfo
from app.services.stored_weights import stored_in
from app.services.submit import check
from app.services.work import Work
from app.settings import Settings
from secateur.contract.drafts import DraftOutlook
from secateur.contract.errors import BadCheckpoint
from secateur.contract.estimates.disk import published, scratch
from secateur.contract.estimates.drafts import draft_outlook
from secateur.contract.estimates.memory import peak_memory
from secateur.contract.estimates.model import DTYPE_BYTES, KnownModel, Stored, in_bytes, known_model
from secateur.contract.estimates.quantised import quantised_bytes
from secateur.contract.estimates.removal import Removal, removal_of
from secateur.contract.estimates.rough import Speed, rough_duration
from secateur.contract.estimates.setting import Setting
from secateur.contract.estimates.sizes import original_size, pruned_size
from secateur.contract.estimates.speedups import PastSpeedup, speedup
from secateur.contract.estimates.times import PastStage, duration
from secateur.contract.estimates.work import Scale, Task, task_of, work_of
from secateur.contract.models.parameters import parameter_count
from secateur.contract.spec import CompressionSpec, HubModel
from secateur.contract.stage_graph import PlannedStage, planned
from secateur.schemas.estimates import (
    Device,
    DraftEstimate,
    Estimate,
    PrunedSize,
    QuantisedSize,
    Size,
    Speedup,
    StageEstimate,
    TimeBasis,
    TimeSpan,
    Workers,
)

UNPACKED = DTYPE_BYTES["float32"]  # of a weight of a GGUF file, once it is imported
NOT_DECIDED = "How much goes is known once the job has looked at the model."
_OF_TARGET = "Of the target model: "
NO_FORMULA = "No formula is known for models of this family, so their sizes are known once the job has looked at them."


@dataclass(frozen=True)
class _Found:
    """What is known of the spec's model."""

    model: KnownModel | None
    family: str | None = None
    file: GgufFile | None = None  # where it comes as one
    notes: tuple[str, ...] = ()


def estimate(work: Work, spec: CompressionSpec) -> Estimate:
    """What a job of this spec will take.

    Raises:
        InvalidInput, BadCheckpoint, UnsupportedModel: as its submission; or the hub's config says that it cannot be.
    """
    found = _look(spec, check(work, spec), work.settings.cache_dir)
    target = _look_at_target(spec, work.settings)
    removal = removal_of(spec, found.model) if found.model is not None else None
    stages = planned(spec)
    kinds = {stage.kind for stage in stages}
    rows = past_stages.newest(work.session, kinds)
    name = spec.model.id if isinstance(spec.model, HubModel) else spec.model.path
    benchmarks = past_stages.benchmarks_of(work.session, name)
    up = workers.taking(work.session)
    device = _device(up, rows)
    dtype = spec.dtype if spec.dtype != "auto" else ("float32" if device.kind == "cpu" else "bfloat16")
    setting = None
    if found.model is not None:
        imported = found.file is not None
        setting = Setting(spec, found.model, removal, imported, device.kind, DTYPE_BYTES[dtype], target.model)
    original = None if setting is None else original_size(setting.model, width=setting.width)
    pruned = None
    if setting is not None and removal is not None:
        size = pruned_size(setting.model, removal, width=setting.width)
        pruned = PrunedSize(**vars(size), exact=removal.exact, spread=0 if removal.exact else removal.spread)
    past = [stage for row in rows if (stage := _past(row)) is not None]
    speed = _speed(up)
    of_stages = [_stage(stage, spec, name, device, speed, setting, pruned, found.file, past) for stage in stages]
    gained = speedup(spec, found.model, removal, past=_speedups(benchmarks), device=device.name or "")
    outlook = None
    if found.model is not None and target.model is not None and removal is not None:
        outlook = draft_outlook(spec, found.model, removal, target.model)
    times, disks = [stage.seconds for stage in of_stages], [stage.disk_bytes for stage in of_stages]
    memories = [stage.memory_bytes for stage in of_stages if stage.memory_bytes is not None]
    most = max(memories, default=None)
    return Estimate(
        model=name,
        family=found.family,
        device=device,
        dtype=dtype,
        original=None if original is None else Size(**vars(original)),
        pruned=pruned,
        quantised=[
            QuantisedSize(variant=way.variant, bytes=None if setting is None else quantised_bytes(setting, way))
            for way in spec.quantise
        ],
        speedup=None if gained is None else Speedup(**vars(gained)),
        stages=of_stages,
        seconds=None if None in times else sum(time for time in times if time is not None),
        rough_seconds=_rough_sum(of_stages),
        memory_bytes=most,
        disk_bytes=None if None in disks else sum(disk for disk in disks if disk is not None),
        worker_disk_bytes=_on_worker(spec, setting),
        workers=Workers(up=len(up), fit=None if most is None else sum(_fits(worker, most, device) for worker in up)),
        draft=None if outlook is None else _draft(outlook),
        notes=[
            *found.notes,
            *([NOT_DECIDED] if setting is not None and removal is None else []),
            *(_OF_TARGET + note for note in target.notes),
            *([outlook.told] if outlook is not None else []),
        ],
    )


def _look(spec: CompressionSpec, local: LocalModelInfo | None, cache: Path) -> _Found:
    """What can be seen of the model."""
    if isinstance(spec.model, HubModel):
        answer = hub_config(spec.model, cache=cache)
        if answer.config is not None:
            check_config(spec, answer.config, pointer="/model/id")
        return _on_hub(answer)
    return _here(local)


def _look_at_target(spec: CompressionSpec, settings: Settings) -> _Found:
    """What can be seen of the model that a draft is for; nothing, where the job makes none."""
    if spec.target_model is None:
        return _Found(None)
    if isinstance(spec.target_model, HubModel):
        return _on_hub(hub_config(spec.target_model, cache=settings.cache_dir))
    return _here(look_at_target(spec, settings))


def _on_hub(answer: HubConfig) -> _Found:
    if answer.config is None:
        return _Found(None, notes=(f"The model's sizes are not known: {answer.problem}.",))
    return _known(answer.config, None)


def _here(local: LocalModelInfo | None) -> _Found:
    if local is None:
        return _Found(None, notes=("This host does not look at local models (SECATEUR_CHECK_LOCAL).",))
    if local.config is not None:
        stored = None if local.blocks is None else stored_in(local.path, local.blocks)
        return _known(local.config, stored)
    file = gguf_file(local.path)
    if file is None:
        return _Found(None, notes=("The head of the GGUF file does not tell the model's sizes.",))
    count = parameter_count(file.config)
    return _known(file.config, None if count is None else in_bytes(count, UNPACKED), file)


def _known(config: Mapping[str, Any], stored: Stored | None, file: GgufFile | None = None) -> _Found:
    family = str(config.get("model_type"))
    try:
        model = known_model(config, stored)
    except BadCheckpoint as error:  # it may leave to its class's defaults what the formula asks for
        return _Found(None, family, file, (f"The model's sizes are not known: {error.detail}",))
    return _Found(model, family, file, (NO_FORMULA,) if model is None else model.notes)


def _device(up: Sequence[Worker], rows: Sequence[StageRow]) -> Device:
    """That of a worker that is up, or else the one on which this installation has computed last."""
    for worker in up:
        return Device(
            kind="cuda" if worker.device == "cuda" else "cpu",
            name=worker.device_name,
            detail=f"the worker {worker.name} has it",
        )
    for row in rows:
        if row.environment is not None:
            return Device(
                kind="cuda" if str(row.environment["device"]).startswith("cuda") else "cpu",
                name=row.environment["device_name"],
                detail="the last stages ran on it",
            )
    return Device(kind="cpu", name=None, detail="nothing has run here yet, so a CPU is taken")


def _speed(up: Sequence[Worker]) -> Speed | None:
    """That of the worker whose device is told, where its probe has measured it."""
    first = next(iter(up), None)
    if first is None or first.flops is None or first.weights_read is None:
        return None
    return Speed(first.flops, first.weights_read)


def _rough_sum(stages: Sequence[StageEstimate]) -> TimeSpan | None:
    if all(stage.seconds is not None for stage in stages):
        return None
    spans = [
        stage.rough_seconds if stage.seconds is None else TimeSpan(low=stage.seconds, high=stage.seconds)
        for stage in stages
    ]
    if None in spans:
        return None
    known = [span for span in spans if span is not None]
    return TimeSpan(low=round(sum(span.low for span in known), 3), high=round(sum(span.high for span in known), 3))


def _fits(worker: Worker, memory: int, device: Device) -> bool:
    """Whether stages that take so much on the estimate's kind of device can run on this worker."""
    has = worker.device_memory if worker.device == "cuda" else worker.stage_memory
    return worker.device == device.kind and has is not None and memory <= has


def _stage(
    stage: PlannedStage,
    spec: CompressionSpec,
    name: str,
    device: Device,
    speed: Speed | None,
    setting: Setting | None,
    pruned: PrunedSize | None,
    file: GgufFile | None,
    past: Sequence[PastStage],
) -> StageEstimate:
    task, time = task_of(stage.kind, spec), None
    if setting is not None:
        stored = setting.model.stored
        scale = Scale(
            setting.parameters,
            len(setting.model.count.blocks),
            stored.total if stored else setting.parameters,
            0 if setting.target is None else setting.target.count.total,
        )
        time = duration(task, work_of(stage.kind, spec, scale), past, device=device.name or "")
    rough = None
    if time is None and setting is not None and speed is not None:
        rough = rough_duration(stage.kind, setting, speed)
    seen = _memory_seen(task, name, device, past)
    memory = seen if seen is not None else None if setting is None else peak_memory(stage.kind, setting)
    disk = None
    if setting is not None:
        left = _pruned_file(file, setting.removal)
        disk = published(stage.kind, setting, pruned_bytes=pruned.bytes if pruned else None, file_bytes=left)
    return StageEstimate(
        key=stage.key,
        kind=stage.kind,
        seconds=None if time is None else round(time.seconds, 3),
        seconds_basis=None if time is None else TimeBasis(stages=time.stages, unit=time.unit),
        rough_seconds=None if rough is None else TimeSpan(low=round(rough.low, 3), high=round(rough.high, 3)),
        memory_bytes=memory,
        memory_basis=None if memory is None else "sizes" if seen is None else "past",
        disk_bytes=disk,
    )


def _memory_seen(task: Task, name: str, device: Device, past: Sequence[PastStage]) -> int | None:
    """What stages that did the same to the same model have used; on a CPU, whose memory is what is counted."""
    used = [
        stage.memory
        for stage in past
        if (stage.task, stage.model, stage.device) == (task, name, device.name) and stage.memory is not None
    ]
    return round(median(used)) if used and device.kind == "cpu" else None


def _pruned_file(file: GgufFile | None, removal: Removal | None) -> int | None:
    """Bytes of the pruned GGUF file, where blocks of alike size go."""
    if file is None or removal is None or not removal.blocks:
        return None
    return file.bytes - round(removal.blocks * sum(file.block_bytes) / len(file.block_bytes))


def _on_worker(spec: CompressionSpec, setting: Setting | None) -> int | None:
    if setting is None or setting.model.stored is None:
        return None
    cached = setting.model.stored.total if setting.imported or isinstance(spec.model, HubModel) else 0
    if isinstance(spec.target_model, HubModel) and setting.target is not None and setting.target.stored is not None:
        cached += setting.target.stored.total
    return cached + max(scratch(stage.kind, setting) for stage in planned(spec))


def _past(row: StageRow) -> PastStage | None:
    """The stage with its work; None where its spec is of another version, or too little is known."""
    try:
        spec = CompressionSpec.model_validate(row.spec)
        target = (row.target or {}).get("parameters", 0)
        scale = Scale(row.model["parameters"], row.model["blocks"], row.model["bytes_on_disk"], target)
    except (ValidationError, KeyError):
        return None
    work = work_of(row.kind, spec, scale)
    if work is None or row.environment is None or row.seconds <= 0 or work.amount <= 0:
        return None
    device = str(row.environment["device_name"])
    return PastStage(task_of(row.kind, spec), device, row.model_id, row.seconds, work, row.memory)


def _draft(outlook: DraftOutlook) -> DraftEstimate:
    low, high = outlook.speedups
    return DraftEstimate(
        tokens=outlook.tokens,
        cost=outlook.cost,
        least_acceptance=outlook.least,
        speedup_low=low,
        speedup_high=high,
        pays=outlook.pays,
    )


def _speedups(rows: Sequence[BenchmarkRow]) -> list[PastSpeedup]:
    """Of what pruning left, as it was measured at the smallest batch."""
    found = []
    for row in rows:
        original, *variants = row.variants
        pruned = next((variant for variant in variants if variant["variant"] == "pruned"), None)
        cells = [cell for cell in (pruned or {}).get("latency", ()) if cell.get("speedup")]
        if pruned is None or not cells:
            continue
        least = min(cells, key=lambda cell: (cell["batch_size"], cell["output_tokens"]))
        share = 1 - pruned["parameters"] / original["parameters"]
        kind = row.spec["pruning"]["kind"]
        found.append(PastSpeedup(row.environment["device_name"], kind, share, least["speedup"]["median"]))
    return found
