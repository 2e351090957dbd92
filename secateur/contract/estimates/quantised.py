"""Bytes of the quantised models that a job makes: by the shapes of their matrices and the formats, tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from secateur.contract.errors import InvalidInput
from secateur.contract.estimates.setting import FLOAT, Setting
from secateur.contract.experts import experts_to_remove
from secateur.contract.gguf_kinds import FILE_KINDS, Place, tensor_bytes
from secateur.contract.models.config_reader import ConfigReader
from secateur.contract.models.families import family_of
from secateur.contract.models.formulas import LlamaLike
from secateur.contract.models.matrices import Matrix, matrices_of
from secateur.contract.models.widths import widths_of
from secateur.contract.options.pruning import DepthPruning, ExpertPruning, SubBlockPruning
from secateur.contract.options.quantise import GgufQuantisation, IntegerOptions, VariantOptions
from secateur.contract.options.vocabulary import VocabularyPruning
from secateur.contract.options.width import WidthPruning
from secateur.contract.vocabulary import smaller
from secateur.contract.width import uniform_counts

SCALE_BYTES = 2
SHAPE_BYTES = 16  # of the two numbers that say how large a packed matrix was
WORD_BITS = 32  # integers are packed into such
_OTHER = {"attention": "mlp", "mlp": "attention"}


def quantised_bytes(setting: Setting, way: VariantOptions) -> int | None:
    """Of the tensors, as the stage's result says; None where shapes are not known, or scores decide over them."""
    removal = setting.removal
    if removal is None or not removal.exact:
        return None
    config = _pruned_config(setting)
    matrices = None if config is None else matrices_of(config)
    if config is None or matrices is None:
        return None
    if isinstance(setting.spec.pruning, SubBlockPruning):
        matrices = _without(matrices, setting.spec.pruning.drop or ())
    if isinstance(way, GgufQuantisation):
        return _as_file(setting, config, matrices, way.type)
    assert isinstance(way, IntegerOptions), "there are no other ways"
    return _as_integers(setting, matrices, way)


def _pruned_config(setting: Setting) -> Mapping[str, Any] | None:
    """The config of what pruning leaves, as far as shapes follow from it."""
    config, pruning = setting.model.config, setting.spec.pruning
    if isinstance(pruning, DepthPruning):
        alike = len(set(setting.model.count.per_block)) == 1
        return {**config, "num_hidden_layers": setting.blocks_left} if alike else None
    if isinstance(pruning, VocabularyPruning):
        return smaller(config, pruning.tokens)
    if isinstance(pruning, ExpertPruning):
        left = [block.experts for block in setting.model.count.blocks if block.experts]
        name = next((name for name in ("num_local_experts", "num_experts") if config.get(name)), None)
        return {**config, name: left[0] - experts_to_remove(pruning, left[0])} if left and name else None
    if isinstance(pruning, SubBlockPruning):  # which halves go decides over the types of the others
        return config if pruning.drop else None
    return _narrowed(config, pruning) if isinstance(pruning, WidthPruning) else None


def _without(matrices: list[Matrix], drop: Sequence[str]) -> list[Matrix]:
    """Those of the halves that stay; blocks that lose both are counted no more."""
    gone = {number for number, half in (unit.split(".") for unit in drop) if f"{number}.{_OTHER[half]}" in drop}
    found = []
    for matrix in matrices:
        _, number, part = matrix.name.split(".", 2)
        half = "attention" if part.startswith("attn") else "mlp"
        if f"{number}.{half}" not in drop:
            new = int(number) - sum(int(block) < int(number) for block in gone)
            found.append(Matrix(f"blk.{new}.{part}", matrix.shape))
    return found


def _narrowed(config: Mapping[str, Any], pruning: WidthPruning) -> Mapping[str, Any] | None:
    found, family = widths_of(config, pruning), family_of(config.get("model_type"))
    if found is None or pruning.uneven or family is None or not isinstance(family.sizes, LlamaLike):
        return None
    heads, kv_heads, size = family.sizes.heads(ConfigReader(config))
    try:
        groups, neurons = uniform_counts(found.budget, group_counts=found.group_counts, multiple=pruning.multiple)
    except InvalidInput:
        return None
    own = {"num_attention_heads": groups * heads // kv_heads, "num_key_value_heads": groups, "head_dim": size}
    return {**config, **own, "intermediate_size": neurons}


def _as_file(setting: Setting, config: Mapping[str, Any], matrices: list[Matrix], kind: str) -> int | None:
    """All that is no matrix is in float32, routers too; a tied head is stored once."""
    family = family_of(config.get("model_type"))
    if family is None or family.gguf is None or not isinstance(family.sizes, LlamaLike):
        return None
    heads, kv_heads, size = family.sizes.heads(ConfigReader(config))
    tied = not setting.model.count.head
    hidden, tokens = setting.model.hidden, int(config["vocab_size"])
    outside = [Matrix("token_embd.weight", (tokens, hidden))]
    outside += [] if tied else [Matrix("output.weight", (tokens, hidden))]
    experts = int(config.get("num_local_experts") or config.get("num_experts") or 0)
    blocks = int(config["num_hidden_layers"]) - _whole_blocks(setting)
    total, others = 0, setting.left
    for matrix in [*outside, *matrices]:
        place = Place(matrix.name, matrix.shape, blocks, heads // kv_heads, experts, tied)
        total += tensor_bytes(FILE_KINDS[kind].type_of(place), matrix.shape)
        others -= math.prod(matrix.shape)
    return total + FLOAT * (others + _divisors(config, size))


def _whole_blocks(setting: Setting) -> int:
    """How many blocks lose both halves, where halves go."""
    drop = getattr(setting.spec.pruning, "drop", None) or ()
    return sum(f"{number}.attention" in drop and f"{number}.mlp" in drop for number in range(setting.blocks))


def _divisors(config: Mapping[str, Any], head_dim: int) -> int:
    """What Llama 3.1's rule has in the place of keys."""
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind = scaling.get("rope_type") or scaling.get("type") if isinstance(scaling, Mapping) else None
    return head_dim // 2 if kind == "llama3" else 0


def _as_integers(setting: Setting, matrices: list[Matrix], way: IntegerOptions) -> int | None:
    """The blocks' matrices as packed words with their scales and shapes; the rest in the checkpoint's own dtype."""
    stored = setting.model.stored
    if stored is None or any(len(matrix.shape) > 2 for matrix in matrices):
        return None
    bits: int = getattr(way, "bits", 8)
    total, others = 0, setting.left
    for rows, columns in (matrix.shape for matrix in matrices):
        groups = columns // (way.group_size or max(1, columns))
        words = math.ceil(columns * bits / WORD_BITS)
        total += rows * (words * WORD_BITS // 8 + groups * SCALE_BYTES) + SHAPE_BYTES
        others -= rows * columns
    return total + round(others * stored.total / setting.parameters)
