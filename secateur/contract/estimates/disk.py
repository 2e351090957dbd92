"""The disk that each stage's published files take, and what the model itself takes in the worker's cache."""

from __future__ import annotations

from secateur.contract.estimates.quantised import quantised_bytes
from secateur.contract.estimates.setting import Setting
from secateur.contract.estimates.work import measures_a_file
from secateur.contract.options.pruning import DepthPruning
from secateur.contract.options.quantise import GgufQuantisation, IntegerOptions
from secateur.contract.options.recovery import DistillRecovery, LoraRecovery, NoRecovery
from secateur.contract.options.training import TrainedRecovery
from secateur.contract.stage_kinds import BENCHMARK, PRUNE, QUANTISE, RECOVER, SIZES

REPORTS = 1 << 20  # of results, plots and cards
FLOAT = 4
# Bits of a weight in llama.cpp's files, where shapes are not known; mixes by what most of their weights have.
_GGUF_BITS = {"Q8_0": 8.5, "Q6_K": 6.6, "Q5": 5.6, "Q4": 4.7, "Q3": 3.7, "Q2": 2.9}
PREDICTION_BYTES = 6  # of a stored prediction: a token's number and its probability


def published(kind: str, setting: Setting, *, pruned_bytes: int | None, file_bytes: int | None) -> int | None:
    """Bytes that a stage of this kind leaves in the store; None where the pruned checkpoint's are not known.

    Args:
        file_bytes: of the pruned GGUF file beside the checkpoint, where one is written.
    """
    if kind == PRUNE.name:
        written = isinstance(setting.spec.pruning, DepthPruning) and setting.spec.pruning.gguf is not False
        beside = (file_bytes or 0) if written else 0
        return None if pruned_bytes is None else pruned_bytes + beside + REPORTS
    if kind == RECOVER.name:
        return None if pruned_bytes is None else pruned_bytes + (file_bytes or 0) + REPORTS
    if kind == SIZES.name and setting.spec.sizes is not None:
        models = len(setting.spec.sizes.blocks or ())
        return round(models * setting.left * FLOAT) + REPORTS if models else None
    if kind == QUANTISE.name:
        ways = setting.spec.quantise
        return sum(quantised_bytes(setting, way) or round(setting.left * _bits(way) / 8) for way in ways) + REPORTS
    return REPORTS


def scratch(kind: str, setting: Setting) -> int:
    """Bytes that a stage keeps while it runs: a training's snapshots and the predictions, files that are unpacked."""
    recovery = setting.spec.recovery
    if kind == BENCHMARK.name:
        files = sum(isinstance(way, GgufQuantisation) for way in setting.spec.quantise)
        return FLOAT * setting.left * (files + measures_a_file(setting.spec))
    if kind != RECOVER.name or isinstance(recovery, NoRecovery) or not isinstance(recovery, TrainedRecovery):
        return 0
    if isinstance(recovery, LoraRecovery) or getattr(recovery, "train", "") == "lora":
        return 0  # megabytes
    predictions = 0
    if isinstance(recovery, DistillRecovery):
        predictions = (recovery.samples or 512) * recovery.tokens * recovery.top_k * PREDICTION_BYTES
    return 2 * 3 * FLOAT * setting.left + predictions  # two snapshots of weights and moments


def _bits(way: object) -> float:
    if isinstance(way, GgufQuantisation):
        if way.type in ("F16", "BF16"):
            return 16
        return next(bits for name, bits in _GGUF_BITS.items() if way.type.startswith(name))
    assert isinstance(way, IntegerOptions)
    bits = getattr(way, "bits", 8)
    return float(bits) + (16 / way.group_size if way.group_size else 0)
