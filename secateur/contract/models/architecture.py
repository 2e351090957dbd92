"""Where a model family has its blocks, projections and per-layer settings, as its classes in transformers name them.

Architectures are data, as in mergekit: part of a family's row (`families.py`), and for a family with no row made by
the engine from the structure of the model itself. Paths of modules are relative: those of
attention and MLP to the block, those of projections to the attention or the MLP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Quirk = Literal[
    "conv1d",  # projections are GPT-2's Conv1D: the weight is (in, out), not (out, in)
    "fused_qkv",  # one projection makes queries, keys and values
    "fused_gate_up",  # one projection makes gate and up
    "interleaved_qkv",  # the fused projection interleaves queries, keys and values by head group
    "learned_positions",  # absolute positions are an embedding added to the tokens'
    "moe",  # some or all MLPs are mixtures of experts
    "norm_after",  # attention and MLP outputs pass a norm before they join the residual stream
    "parallel_residual",  # attention and MLP may read the same input, by a config switch or always
]


@dataclass(frozen=True)
class Architecture:
    """One family of decoder-only models."""

    family: str  # name of the row, such as "llama"
    model_types: tuple[str, ...]  # values of the config's `model_type` that it covers
    blocks_prefix: str = "model.layers"  # module path of the list of blocks
    base_prefix: str = "model"  # transformers' base_model_prefix; some checkpoints on disk leave it out
    embeddings: tuple[str, ...] = ("model.embed_tokens",)  # token embedding first, then learned positions
    final_norm: str | None = "model.norm"
    head: str = "lm_head"
    layer_count_key: str = "num_hidden_layers"  # the config entry as written in config.json

    # Entries with one value per block: `per_layer_lists` are lists of length n_blocks in this config, a list of
    # block numbers is in `layer_index_lists`, and `pattern_keys` are numbers from which transformers derives a
    # per-layer pattern by position where the list itself is absent.
    per_layer_lists: tuple[str, ...] = ()
    layer_index_lists: tuple[str, ...] = ()
    pattern_keys: tuple[str, ...] = ()

    attention: str = "self_attn"  # within the block
    query: str | None = "q_proj"  # within the attention; None where fused
    key: str | None = "k_proj"
    value: str | None = "v_proj"
    fused_qkv: str | None = None
    attention_output: str = "o_proj"

    mlp: str = "mlp"  # within the block; "" where the projections are the block's own children
    gate: str | None = "gate_proj"  # within the MLP; None where there is no gate, or where it is fused
    up: str | None = "up_proj"
    fused_gate_up: str | None = None
    down: str = "down_proj"

    quirks: frozenset[Quirk] = frozenset()

    @property
    def disk_prefixes(self) -> tuple[str, ...]:
        """Prefixes under which a checkpoint may keep its blocks: with and without the base model's own.

        GPT-2 on the hub, for one, stores `h.0.…` where the module is `transformer.h.0.…`.
        """
        bare = self.blocks_prefix.removeprefix(self.base_prefix + ".")
        return (self.blocks_prefix,) if bare == self.blocks_prefix else (self.blocks_prefix, bare)
