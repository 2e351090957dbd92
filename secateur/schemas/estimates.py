"""An estimate as the API shows it. Null is "unknown": nothing that was seen tells it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from secateur.schemas.base import Body


class Size(Body):
    """One model, by its config."""

    blocks: int
    parameters: int
    bytes: int | None = Field(description="Of the checkpoint's tensors.")
    kv_bytes_per_token: int = Field(description="Cache of one sequence, in the dtype of the arithmetic.")


class PrunedSize(Size):
    """What pruning leaves."""

    exact: bool = Field(
        description="Whether blocks and parameters are certain. Otherwise the scores decide among parts that differ."
    )
    spread: int = Field(description="Parameters, by which it may be more or less where it is not exact.")


class QuantisedSize(Body):
    """One of the quantised models that the job makes."""

    variant: str = Field(description="The end of its name: int8, gguf-q4_k_m.")
    bytes: int | None = Field(
        description="Of its tensors, tokenizer and keys apart; null where shapes are not known, or scores decide."
    )


class Speedup(Body):
    """Of generation at batch 1."""

    value: float
    basis: Literal["past", "bytes"] = Field(
        description="`past`: benchmarks of this model that this installation has made. `bytes`: weights that are read."
    )
    detail: str


class DraftEstimate(Body):
    """What to expect of a draft, from sizes alone: no acceptance was measured."""

    tokens: int = Field(description="Proposed at a time.")
    cost: float = Field(
        description="Of a token of the draft, by the weights that are read, as a share of the target's."
    )
    least_acceptance: float | None = Field(
        description="Share of its tokens that the target has to accept for it to pay; null where none is enough."
    )
    speedup_low: float = Field(description="Of the target, where it accepts 60 % of the proposed tokens.")
    speedup_high: float = Field(description="Likewise, 80 %.")
    pays: bool = Field(description="Whether that is more than the target alone gives.")


class Device(Body):
    """What times and memory are told for."""

    kind: Literal["cpu", "cuda"]
    name: str | None = Field(description="The device's own name; null where nothing has run yet.")
    detail: str = Field(description="Why this device.")


class TimeBasis(Body):
    """What a time rests on."""

    stages: int = Field(description="Past stages of the same kind, method and device.")
    unit: str = Field(description="By which they were compared: the median of seconds for each is taken.")


class TimeSpan(Body):
    """Seconds between which a time may lie."""

    low: float
    high: float


class StageEstimate(Body):
    """What one stage will take."""

    key: str
    kind: str
    seconds: float | None = Field(description="Null until a stage like it has run here.")
    seconds_basis: TimeBasis | None
    rough_seconds: TimeSpan | None = Field(
        default=None,
        description="Until a stage like it has run here: half and twice what its arithmetic takes at the speed that "
        "the worker's probe has measured. Null where no worker is up, or the spec does not tell how much it has to do.",
    )
    memory_bytes: int | None = Field(
        description="The most that its processes use: on a CPU beside mapped files, as a worker's limit counts it; "
        "of a GPU the device's memory."
    )
    memory_basis: Literal["past", "sizes"] | None = Field(
        description="`past`: the median of stages like it on this model. `sizes`: computed."
    )
    disk_bytes: int | None = Field(description="Of the files that it publishes.")


class Workers(Body):
    """Who would take its stages."""

    up: int = Field(description="Workers that are up and take stages.")
    fit: int | None = Field(
        description="Of these, those with the memory that the stage which takes most needs; null where that is unknown."
    )


class Estimate(Body):
    """What a job will take and give. Nothing of it was measured on this job."""

    model: str = Field(description="Hub id or path.")
    family: str | None
    device: Device
    dtype: Literal["float32", "bfloat16", "float16"] = Field(description="Of the stages' arithmetic.")
    original: Size | None
    pruned: PrunedSize | None
    quantised: list[QuantisedSize] = Field(default=[], description="In the order of the spec.")
    speedup: Speedup | None
    stages: list[StageEstimate]
    seconds: float | None = Field(description="Of all stages, one after the other; null where one is unknown.")
    rough_seconds: TimeSpan | None = Field(
        default=None,
        description="The same where some stages are known by their `rough_seconds` alone; null where all are known "
        "better, or one not even so.",
    )
    memory_bytes: int | None = Field(description="Of the stage that takes most.")
    disk_bytes: int | None = Field(description="Of all files that the job publishes.")
    worker_disk_bytes: int | None = Field(
        description="On the worker beside: the model in its cache, and what is kept while a stage runs."
    )
    workers: Workers
    draft: DraftEstimate | None = Field(
        default=None, description="Where the job makes a draft, and the sizes of both models are known."
    )
    notes: list[str]
