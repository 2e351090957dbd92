"""What the benchmark stage measures: the original, and what the stages before have made of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from secateur.contract.measurements import (
    Fidelity,
    GenerationScore,
    LatencyCell,
    Measurement,
    Memory,
    Perplexity,
    ReusedFigure,
    Sample,
)
from secateur.contract.stage_kinds import QUANTISE
from workers.engine.benchmarks.generation_checks import Answers
from workers.engine.benchmarks.samples import sample_figures
from workers.engine.benchmarks.task_scores import TaskRun, scores_of
from workers.engine.checkpoints.checkpoint import Checkpoint
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
    timed: bool = True  # whether speed and memory are measured too
    memory: Memory | None = None
    perplexity: list[Perplexity] = field(default_factory=list)
    losses: dict[str, Tensor] = field(default_factory=dict)  # hash of a text's tokens → mean loss of each window
    fidelity: list[Fidelity] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    latency: list[LatencyCell] = field(default_factory=list)
    answers: Answers | None = None  # to the checks of generation
    scores: list[GenerationScore] = field(default_factory=list)
    tasks: list[TaskRun] = field(default_factory=list)
    measured: bool = False  # whether its quality has been
    reused: list[ReusedFigure] = field(default_factory=list)

    def measurement(self, original: Variant) -> Measurement:
        return Measurement(
            variant=self.name,
            parameters=self.parameters,
            blocks=self.blocks,
            bytes_on_disk=self.bytes_on_disk,
            latency=self.latency,
            memory=self.memory,
            perplexity=self.perplexity,
            fidelity=self.fidelity,
            samples=self.samples,
            sampled=sample_figures(self.samples),
            generation=self.scores,
            tasks=scores_of(self.tasks, None if self is original else original.tasks),
            reused=self.reused,
        )


def opened_variant(name: str, checkpoint: Checkpoint, parameters: int, blocks: int) -> Variant:
    return Variant(name, checkpoint, parameters, blocks, checkpoint.total_bytes)


def quantised_variants(context: StageContext, final: Variant) -> list[Variant]:
    """The final model as the quantise stage left it, once for each way.

    A GGUF file is measured by its values: unpacked into a checkpoint, as transformers does it. How fast llama.cpp is
    with it cannot be told that way, so neither speed nor memory is.
    """
    if not context.has(QUANTISE):
        return []
    folder = context.input(QUANTISE)
    found = []
    for made in context.read(QUANTISE).variants:
        path = folder / made.path
        unpacked = path.is_file()
        if unpacked:
            path = context.scratch / made.name
            if not path.is_dir():
                with new_folder(path) as new:
                    import_gguf(folder / made.path, new, progress=context.progress)
        name = f"{final.name}-{made.name}"
        checkpoint = Checkpoint.open(path)
        found.append(Variant(name, checkpoint, final.parameters, final.blocks, made.bytes, timed=not unpacked))
    return found
