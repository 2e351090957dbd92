"""The memory of what recovers a model: weights, gradients and moments, what a step keeps for its way back, healing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from secateur.contract.estimates.memory_of_texts import (
    GRADIENT_COPIES,
    TOKENS_AT_ONCE,
    healing,
    kept_of_a_block,
    refitted_blocks,
)
from secateur.contract.estimates.setting import FLOAT, Samples, Setting, tokens_of
from secateur.contract.estimates.work import HEALED_TOKENS
from secateur.contract.options.pruning import DepthPruning
from secateur.contract.options.recovery import DistillRecovery, HealingRecovery, LoraRecovery
from secateur.contract.options.training import TrainedRecovery

LOGITS_COPIES = 5  # as they are, their logarithms or at a temperature, and gradients on their way back
MOMENTS = {"adamw": 8, "adamw_8bit": 2}  # bytes of a trained parameter


@dataclass(frozen=True)
class _Trained:
    """What of the model is trained."""

    parameters: int
    blocks: int  # through which gradients go,
    of_own: int  # and of these, those whose weights, or adapters, are trained
    adapted: bool  # by adapters, and its own weights stay as they are


def recover(setting: Setting) -> int:
    recovery: Any = setting.spec.recovery
    if isinstance(recovery, HealingRecovery):
        refitted = refitted_blocks(setting) if recovery.refit == "after_cut" else 1
        return setting.after_reading(healing(setting, Samples(recovery.samples, recovery.tokens), refitted=refitted))
    if not isinstance(recovery, TrainedRecovery):
        return 0
    healed = 0
    if recovery.heal is not False:
        most = max(1, HEALED_TOKENS // recovery.tokens)
        given = Samples(min(recovery.samples or most, most), recovery.tokens)
        healed = healing(setting, given, refitted=refitted_blocks(setting))
    taught = _predictions(setting, recovery) if isinstance(recovery, DistillRecovery) else 0
    return setting.after_reading(max(healed, taught, _training(setting, recovery)))


def _predictions(setting: Setting, recovery: DistillRecovery) -> int:
    """The teacher's likeliest tokens: what its blocks make of some samples, and then their logits."""
    teacher = setting.model if setting.target is None else setting.target
    most = max(1, TOKENS_AT_ONCE // recovery.tokens)
    text = Samples(min(recovery.samples or most, most), recovery.tokens)
    tokens = tokens_of(text)
    head = setting.packed(teacher.count.head or teacher.count.embedding)
    predicted = head + setting.logits(text, GRADIENT_COPIES)
    return setting.loaded(teacher.count.total) + setting.states(tokens) + max(setting.made(tokens), predicted)


def _training(setting: Setting, recovery: TrainedRecovery) -> int:
    """What a step keeps, or takes on its way back. Moments are made by the first, when its states are gone."""
    trained = _trained(setting, recovery)
    tokens = recovery.micro_batch_size * recovery.tokens
    backward = _backward(setting, recovery, trained, tokens)
    frozen = setting.loaded(setting.left if trained.adapted else setting.left - trained.parameters)
    beside = _beside(setting, recovery, tokens)
    weights, gradients = FLOAT * trained.parameters, FLOAT * trained.parameters
    moments = MOMENTS[recovery.optimizer] * trained.parameters
    first = setting.loaded(trained.parameters) if not trained.adapted else weights  # mapped until the first step
    added_up = 0 if recovery.batch_size == recovery.micro_batch_size else gradients
    first += added_up + backward
    later = 0 if recovery.most_steps == 1 else weights + moments + added_up + backward
    twice = (
        0 if trained.adapted or setting.model.count.head or trained.parameters < setting.head else FLOAT * setting.head
    )
    return frozen + beside + max(first, later, weights + gradients + moments + twice)  # of a tied head, as both


def _trained(setting: Setting, recovery: TrainedRecovery) -> _Trained:
    train = getattr(recovery, "train", "all")
    if isinstance(recovery, LoraRecovery) or train == "lora":
        left = setting.blocks_left
        return _Trained(_of_adapters(setting, recovery.rank), left, left, True)  # type: ignore[attr-defined]
    per_block = setting.of_blocks // setting.blocks
    if train == "after_cut":
        blocks = _after_cut(setting)
        return _Trained(blocks * per_block, blocks, blocks, False)
    if train == "last_blocks":
        blocks = min(getattr(recovery, "last_blocks", 0), setting.blocks_left)
        tied = not setting.model.count.head  # the embedding too, so gradients go all the way
        return _Trained(blocks * per_block + setting.head, setting.blocks_left if tied else blocks, blocks, False)
    return _Trained(setting.left, setting.blocks_left, setting.blocks_left, False)


def _after_cut(setting: Setting) -> int:
    """The block before the first cut, and all that follow; half of what is left, where the cut is not known."""
    pruning = setting.spec.pruning
    if isinstance(pruning, DepthPruning) and pruning.drop:
        return setting.blocks_left - max(0, min(pruning.drop) - 1)
    return setting.blocks_left // 2


def _of_adapters(setting: Setting, rank: int) -> int:
    """Parameters of adapters on all projections."""
    hidden, heads, kept = setting.model.hidden, setting.heads, setting.model.cached // 2  # of keys, and of values
    of_attention = (hidden + heads) * 2 + (hidden + kept) * 2
    of_mlp = 0 if setting.has_quirk("moe") else 3 * (hidden + setting.inner)
    return rank * (of_attention + of_mlp) * setting.blocks_left


def _backward(setting: Setting, recovery: TrainedRecovery, trained: _Trained, tokens: int) -> int:
    """What a micro-batch of so many tokens keeps for its way back, and the logits with their gradient."""
    hidden, heads, inner = setting.model.hidden, setting.heads, setting.inner
    if not trained.adapted:
        of_a_block = kept_of_a_block(setting)
    elif getattr(recovery, "dropout", 0.0):  # the input of each adapter, and what is dropped of it
        of_a_block = 2 * hidden + 4 * heads + 3 * inner + 2 * (5 * hidden + heads + inner)
    else:
        of_a_block = 2 * hidden + 4 * heads + 3 * inner + 2 * hidden + heads + inner
    frozen = 2 * hidden + 4 * heads + 3 * inner  # of a block whose own weights have no gradients
    states = tokens * (of_a_block * trained.of_own + frozen * (trained.blocks - trained.of_own))
    if getattr(recovery, "gradient_checkpointing", False):  # states within a block are computed once more
        states = tokens * (of_a_block + trained.blocks * hidden)
    return states * setting.width + LOGITS_COPIES * tokens * setting.model.vocabulary * FLOAT


def _beside(setting: Setting, recovery: TrainedRecovery, tokens: int) -> int:
    """The original that is run at every step, where its states are held to: its states and its logits."""
    if not getattr(recovery, "hidden_weight", 0.0):
        return 0
    states = setting.states(tokens, setting.blocks + 1)
    return setting.loaded(setting.parameters) + states + tokens * setting.model.vocabulary * setting.width
