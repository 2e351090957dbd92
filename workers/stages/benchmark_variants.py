"""What the benchmark stage measures: the original, and what the stages before have made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from secateur.contract.measurements import (
    RECOVERED_FILE,
    BitsPerByte,
    DraftFigures,
    EngineCell,
    Fidelity,
    GenerationScore,
    LatencyCell,
    Measurement,
    Memory,
    Perplexity,
    ReusedFigure,
    Sample,
)
from secateur.contract.results import PrunedFile
from secateur.contract.stage_kinds import QUANTISE, RECOVER, SIZES, StageKind
from workers.engine.benchmarks.generation_checks import Answers
from workers.engine.benchmarks.samples import sample_figures
from workers.engine.benchmarks.task_scores import TaskRun, scores_of
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.gguf_file import read_gguf_header
from workers.engine.checkpoints.gguf_import import import_gguf
from workers.engine.checkpoints.new_folder import new_folder
from workers.stages.context import StageContext

ORIGINAL = "original"


@dataclass
class Variant:
    """One model, and what has been measured of it so far."""

    name: str
    checkpoint: Checkpoint
    parameters: int
    blocks: int
    bytes_on_disk: int
    timed: bool = True  # whether it can be timed by transformers, and its memory measured
    file: Path | None = None  # the GGUF file as which it came or goes
    memory: Memory | None = None
    perplexity: list[Perplexity] = field(default_factory=list)
    losses: dict[str, Tensor] = field(default_factory=dict)  # hash of a text's tokens → mean loss of each window
    fidelity: list[Fidelity] = field(default_factory=list)
    bits: dict[str, list[float]] = field(default_factory=dict)  # hash of a text's tokens → bits of each window
    bits_per_byte: list[BitsPerByte] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    latency: list[LatencyCell] = field(default_factory=list)
    llama_cpp: list[EngineCell] = field(default_factory=list)
    vllm: list[EngineCell] = field(default_factory=list)
    answers: Answers | None = None  # to the checks of generation
    scores: list[GenerationScore] = field(default_factory=list)
    tasks: list[TaskRun] = field(default_factory=list)
    draft: DraftFigures | None = None
    measured: bool = False  # whether its quality has been
    reused: list[ReusedFigure] = field(default_factory=list)

    def measurement(self, original: Variant) -> Measurement:
        return Measurement(
            variant=self.name,
            parameters=self.parameters,
            blocks=self.blocks,
            bytes_on_disk=self.bytes_on_disk,
            latency=self.latency,
            llama_cpp=self.llama_cpp,
            vllm=self.vllm,
            memory=self.memory,
            perplexity=self.perplexity,
            fidelity=self.fidelity,
            bits_per_byte=self.bits_per_byte,
            samples=self.samples,
            sampled=sample_figures(self.samples),
            generation=self.scores,
            tasks=scores_of(self.tasks, None if self is original else original.tasks),
            draft=self.draft,
            reused=self.reused,
        )


def opened_variant(
    name: str, checkpoint: Checkpoint, parameters: int, blocks: int, *, file: Path | None = None
) -> Variant:
    return Variant(name, checkpoint, parameters, blocks, checkpoint.total_bytes, file=file)


def file_of(context: StageContext, kind: StageKind[Any], made: PrunedFile | None) -> Path | None:
    """Where a stage of the job has left the model as a GGUF file, if it did."""
    return context.input(kind) / made.path if made is not None else None


def recovered_file(context: StageContext, recovered: Variant) -> list[Variant]:
    """The recovered model as the GGUF file that is handed out, where rounding has made another model of it."""
    made = context.read(RECOVER).gguf
    if made is None or made.relative_error == 0:
        return []
    file = context.input(RECOVER) / made.path
    size = sum(tensor.nbytes for tensor in read_gguf_header(file).tensors)
    checkpoint = unpacked(context, file, RECOVERED_FILE)
    return [Variant(RECOVERED_FILE, checkpoint, recovered.parameters, recovered.blocks, size, False, file)]


def variants_between(context: StageContext, final: Variant) -> list[Variant]:
    """The models between the final one and the original, the smallest first."""
    if not context.has(SIZES):
        return []
    folder = context.input(SIZES)
    return [
        opened_variant(
            f"{final.name}-{model.name}",
            Checkpoint.open(folder / model.name / "checkpoint"),
            model.parameters,
            model.blocks,
        )
        for model in context.read(SIZES).models
    ]


def quantised_variants(context: StageContext, final: Variant) -> list[Variant]:
    """The final model as the quantise stage left it, once for each way."""
    if not context.has(QUANTISE):
        return []
    folder = context.input(QUANTISE)
    found = []
    for made in context.read(QUANTISE).variants:
        path = folder / made.path
        is_file = path.is_file()
        checkpoint = unpacked(context, path, made.name) if is_file else Checkpoint.open(path)
        name = f"{final.name}-{made.name}"
        file = path if is_file else None
        found.append(Variant(name, checkpoint, final.parameters, final.blocks, made.bytes, not is_file, file))
    return found


def unpacked(context: StageContext, file: Path, name: str) -> Checkpoint:
    """The values of a GGUF file as a checkpoint in the scratch folder `name`, for what transformers can tell of it.

    How fast llama.cpp is with the file cannot be told that way, so neither speed nor memory is measured by it
    (`benchmark_engines.py` asks llama.cpp itself).
    """
    folder = context.scratch / name
    if not folder.is_dir():
        with new_folder(folder) as new:
            import_gguf(file, new, progress=context.progress)
    return Checkpoint.open(folder)
