"""The most memory that each stage uses, from sizes: weights, states, logits, what a training keeps, and the libraries.

Of a CPU it is what a worker holds against its limit for a stage, so weights that are computed with as they lie in
their files, which are mapped, do not count. Of a GPU it is the GPU's. What each kind of stage allocates is counted in
the files beside this one, and held against what was measured (docs/benchmarks.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from secateur.contract.estimates import memory_of_files, memory_of_models, memory_of_texts, memory_of_training
from secateur.contract.estimates.setting import Setting
from secateur.contract.stage_kinds import (
    BENCHMARK,
    CHECK,
    CHOOSE,
    COSTS,
    DRAFT,
    PLAN,
    PRUNE,
    QUANTISE,
    RECOVER,
    SCORE,
    SEARCH,
    SIZES,
)

LIBRARIES = 337 << 20  # of a process with torch and transformers, beside its mapped files


def peak_memory(kind: str, setting: Setting) -> int:
    """Bytes that a stage of this kind uses at most."""
    libraries = LIBRARIES if setting.device == "cpu" else 0
    return libraries + (_NEEDS[kind](setting) if kind in _NEEDS else 0)


_NEEDS: Mapping[str, Callable[[Setting], int]] = {
    CHECK.name: memory_of_files.check,
    PLAN.name: memory_of_models.plan,
    COSTS.name: memory_of_models.costs,
    SCORE.name: memory_of_texts.score,
    SEARCH.name: memory_of_texts.search,
    DRAFT.name: memory_of_models.try_drafts,
    CHOOSE.name: memory_of_texts.choose,
    PRUNE.name: memory_of_texts.prune,
    RECOVER.name: memory_of_training.recover,
    SIZES.name: lambda setting: memory_of_texts.BUFFERS,
    QUANTISE.name: memory_of_files.quantise,
    BENCHMARK.name: memory_of_models.benchmark,
}
