"""The memory of stages that send a text through the model: what scores, searches, and prunes by what it sees.

What is counted is what the engine allocates: the states that a walk carries, what one block makes of the tokens that go
through it at once, weights in the processor's own order, and logits piece by piece.
"""

from __future__ import annotations

from secateur.contract.depth import plus_protected
from secateur.contract.estimates.setting import DOUBLE, FLOAT, READ, REWRITTEN, Samples, Setting, Text, tokens_of
from secateur.contract.options.joint import JointPruning
from secateur.contract.options.pruning import DepthPruning, ExpertPruning, SubBlockPruning
from secateur.contract.options.scoring import FINALIST_BATCH, TextScoring
from secateur.contract.options.texts import Calibration
from secateur.contract.options.vocabulary import VocabularyPruning
from secateur.contract.options.width import LlmPrunerPruning, WidthPruning
from secateur.contract.sub_blocks import HALVES, protected_units

LOSS_COPIES = 3  # of a piece's logits: as they are, their logarithms, and the loss
GRADIENT_COPIES = 4  # and their gradient
JUDGED_COPIES = 7  # of two models': as they are, their logarithms, and what the divergence is made of
TOKENS_OF_A_WALK = {"cpu": 2048, "cuda": 32_768}  # that go through a block at once where blocks are judged,
TOKENS_AT_ONCE = 4096  # where they are watched or healed,
TOKENS_OF_A_STEP = 1024  # and where one is trained
CACHE_BYTES = 2 << 30  # of states that a search keeps from round to round
HELD_OUT = 5  # one sample of so many is judged on,
HELD_TOKENS = 4096  # but no more than hold so many tokens
PANEL = 1024  # columns of a factor that are made at a time
TRAINED = 16  # bytes of a parameter that is trained: float32 weight, gradient and moments
COUNTED = 150 << 20  # of what turns a text into tokens piece by piece, in a process of its own
BUFFERS = 16 << 20  # of what copies and rounds tensor by tensor
OUTPUTS_AT_ONCE = 256 << 20  # bytes of what a mixture gives without each of its experts


def score(setting: Setting) -> int:
    scoring = setting.spec.scoring
    if not isinstance(scoring, TextScoring):
        return BUFFERS
    return setting.after_reading(_scored(setting, scoring))


def _scored(setting: Setting, scoring: TextScoring) -> int:
    text, blocks = scoring.calibration, setting.blocks
    if scoring.heals:
        return _healed_sets(setting, text, states=scoring.states(blocks))
    if scoring.needs_gradients:
        carried = setting.states(tokens_of(text), scoring.states(blocks))
        return setting.loaded(setting.parameters) + carried + _backward(setting, text)
    free = [block for block in range(blocks) if not (scoring.plus and block in plus_protected(blocks))]
    kept = min(CACHE_BYTES, setting.states(tokens_of(text), scoring.states_kept(blocks, free)))
    carried = setting.carried(text, scoring.states(blocks)) + kept
    copies = JUDGED_COPIES if scoring.compares else LOSS_COPIES
    return carried + _walk(setting, text, logits=copies if scoring.predicts else 0, whole=scoring.packs_all)


def _walk(setting: Setting, text: Calibration, *, logits: int, whole: bool = False) -> int:
    """Beside the states: weights, and either what a block makes of tokens or what the head makes of them.

    Args:
        logits: how often those of a piece are there.
        whole: all weights are packed, and not a block's at a time.
    """
    made = setting.made(min(tokens_of(text), TOKENS_OF_A_WALK[setting.device]))
    predicted = setting.logits(text, logits)
    loaded = setting.loaded(setting.parameters)
    if whole:
        return loaded + setting.packed(setting.of_blocks + setting.head) + max(made, predicted)
    in_head = setting.packed(setting.head) + predicted if logits else 0
    return loaded + max(setting.packed(setting.largest_block) + made, in_head)


def _backward(setting: Setting, text: Text) -> int:
    """A block's gradients, and what it keeps for its way back; or the gradient of the head's logits."""
    of_block = 2 * FLOAT * setting.largest_block
    kept = kept_of_a_block(setting) * min(tokens_of(text), TOKENS_OF_A_WALK[setting.device]) * setting.width
    return max(of_block + kept, setting.logits(text, GRADIENT_COPIES))


def kept_of_a_block(setting: Setting, *, inputs: bool = True) -> int:
    """Numbers of a token that a block keeps for its way back.

    Two norms keep what they are given and what they make of it, attention its queries, keys, values and what comes of
    them, and the MLP its gate, the gate's activation and up.

    Args:
        inputs: those of the projections too, whose weights have gradients.
    """
    hidden, heads = setting.model.hidden, setting.heads
    kept = 4 * hidden + 4 * heads + 3 * setting.inner
    return kept + (2 * hidden + heads + setting.inner if inputs else 0)


def healing(setting: Setting, text: Text, *, refitted: int) -> int:
    """The original, states of all of the text in both models, and what was found for each block; beside them either the
    sums of a fit with the tokens that it is judged on, or the predictions of both models on these.
    """
    found = refitted * (setting.inner + setting.heads) * setting.model.hidden * FLOAT
    carried = setting.loaded(setting.parameters) + 4 * tokens_of(text) * setting.model.hidden * FLOAT + found
    return carried + _fitting(setting, text)


def _fitting(setting: Setting, text: Text) -> int:
    hidden, inner, tokens = setting.model.hidden, setting.inner, tokens_of(text)
    judged = Samples(max(1, min(text.samples // HELD_OUT, HELD_TOKENS // text.tokens)), text.tokens)
    held = tokens_of(judged)
    sums = DOUBLE * (inner * (inner + min(inner, PANEL)) + 3 * inner * hidden)
    pieces = (inner + hidden) * (DOUBLE * min(tokens, TOKENS_AT_ONCE) + FLOAT * held)
    trained = TRAINED * setting.largest_block + kept_of_a_block(setting) * TOKENS_OF_A_STEP * setting.width
    fitted = trained if setting.has_quirk("norm_after") or setting.has_quirk("moe") else sums + pieces
    return max(fitted, setting.packed(setting.head) + setting.logits(judged, JUDGED_COPIES))


def _healed_sets(setting: Setting, text: Calibration, *, states: float) -> int:
    carried = setting.states(tokens_of(text), states)
    return setting.loaded(setting.parameters) + carried + _fitting(setting, text)


def choose(setting: Setting) -> int:
    """States of the whole text at every depth; sets healed beside them, or a finalist that is trained."""
    scoring = setting.spec.scoring
    text = scoring.healing_text
    healed = _healed_sets(setting, text, states=setting.blocks + 3)
    if scoring.finalists is None:
        return setting.after_reading(healed)
    kept = kept_of_a_block(setting) * setting.blocks_left * FINALIST_BATCH * text.tokens * setting.width
    predicted = GRADIENT_COPIES * FINALIST_BATCH * text.tokens * setting.model.vocabulary * FLOAT
    trained = setting.loaded(setting.left) + kept + predicted
    states = setting.states(tokens_of(text), setting.blocks + 3)
    return setting.after_reading(max(healed, setting.loaded(setting.parameters) + states + trained))


def search(setting: Setting) -> int:
    """One depth healed at a time, without what follows its cuts; or judged as it is."""
    pruning = setting.spec.pruning
    if not isinstance(pruning, DepthPruning) or pruning.constraints is None:
        return 0
    text = pruning.constraints.calibration
    if setting.spec.recovery.kind == "none":
        judged = setting.states(tokens_of(text)) + setting.packed(setting.head)
        judged += setting.logits(text, JUDGED_COPIES)
        return setting.after_reading(setting.loaded(setting.parameters) + judged)
    return setting.after_reading(healing(setting, text, refitted=1))


def prune(setting: Setting) -> int:
    pruning = setting.spec.pruning
    if isinstance(pruning, VocabularyPruning):
        return max(READ * setting.merges + COUNTED, REWRITTEN * setting.merges)
    if isinstance(pruning, DepthPruning) or getattr(pruning, "drop", None) is not None:
        return BUFFERS
    return setting.after_reading(_by_text(setting, pruning))


def _by_text(setting: Setting, pruning: SubBlockPruning | JointPruning | ExpertPruning | WidthPruning) -> int:
    if isinstance(pruning, SubBlockPruning):
        return _halves(setting, pruning)
    if isinstance(pruning, JointPruning):
        return _jointly(setting, pruning)
    if isinstance(pruning, ExpertPruning):
        return _experts(setting, pruning)
    if isinstance(pruning, LlmPrunerPruning):
        return _by_gradients(setting, pruning.calibration)
    return _watched(setting, pruning.calibration)


def _halves(setting: Setting, pruning: SubBlockPruning) -> int:
    """A greedy search that keeps states from round to round: before each block that without each earlier half."""
    text, blocks = pruning.calibration, setting.blocks
    free = _earlier(len(HALVES) * blocks - len(protected_units(pruning, blocks)), blocks)
    kept = min(CACHE_BYTES, setting.states(tokens_of(text), free))
    carried = kept + setting.carried(text, len(HALVES) * blocks + 1)
    return carried + _walk(setting, text, logits=LOSS_COPIES, whole=True)


def _earlier(free: int, blocks: int) -> int:
    """Of so many halves, spread over all blocks: how many stand before each block, and the intact model, summed."""
    return round(blocks + free * (blocks - 1) / 2)


def _jointly(setting: Setting, pruning: JointPruning) -> int:
    """Each choice alone is walked in one piece; what is found is healed when the packed weights are gone."""
    text = pruning.calibration
    states = setting.carried(text, len(pruning.choices) * setting.blocks + 2)
    searched = states + _walk(setting, text, logits=JUDGED_COPIES, whole=True)
    if pruning.healing is None:
        return searched
    return max(searched, healing(setting, pruning.healing, refitted=1))


def _streamed(setting: Setting) -> int:
    """Weights of a walk from disk: what is in no block, the block in use, and the one that is read ahead; of mixtures
    also the experts that are read one by one until they are stacked.
    """
    return (setting.outside + (3 if setting.stacked else 2) * setting.largest_block) * setting.width


def _watched(setting: Setting, text: Calibration) -> int:
    """Blocks from disk, whose neurons are squared and added up in double precision."""
    tokens = tokens_of(text)
    at_once = min(tokens, TOKENS_AT_ONCE) * setting.inner * (3 * setting.width + 2 * DOUBLE)
    return _streamed(setting) + setting.states(tokens, 2) + at_once


def _by_gradients(setting: Setting, text: Calibration) -> int:
    """Blocks from disk, their inputs kept, and of each weight a gradient, its sum and the sum of squares; of the head's
    logits, a sample at a time, while no block is there.
    """
    carried = setting.outside * setting.width + setting.states(tokens_of(text), setting.blocks + 2)
    blocks = _streamed(setting) - setting.outside * setting.width
    sample = Samples(1, text.tokens)
    of_a_block = 3 * FLOAT * setting.largest_block + kept_of_a_block(setting) * text.tokens * setting.width
    return carried + max(blocks + of_a_block, setting.logits(sample, GRADIENT_COPIES))


def _experts(setting: Setting, pruning: ExpertPruning) -> int:
    """Blocks from disk, whose mixtures are watched; by reconstruction, what they give with and without each expert."""
    tokens, hidden = tokens_of(pruning.calibration), setting.model.hidden
    made = setting.made(min(tokens, TOKENS_AT_ONCE))
    if pruning.criterion == "reconstruction":
        experts = max(block.experts for block in setting.model.count.blocks)
        outputs = FLOAT * (experts + 1) * (2 * hidden + experts)  # of a token
        compared = (FLOAT + 2 * DOUBLE) * (experts + 1) * hidden
        made += min(tokens, max(1, OUTPUTS_AT_ONCE // outputs)) * (outputs + compared)
    return _streamed(setting) + setting.states(tokens, 2) + made


def refitted_blocks(setting: Setting) -> int:
    """How many blocks are fitted anew: the one before the first cut and all that follow, or half of what is left."""
    left, pruning = setting.blocks_left, setting.spec.pruning
    if isinstance(pruning, DepthPruning) and pruning.drop:
        return left - max(0, min(pruning.drop) - 1)
    return left // 2
