"""The shapes of each family's blocks as formulas: how many parameters a config makes, and what the cache keeps.

The API estimates sizes before anything is downloaded, and never imports torch. The formulas are those of the families'
classes in transformers, which the tests build without weights and count. Where a config leaves an entry out, the
class's default is meant, so those stand here too.

A tied head is counted once, with the embedding. Buffers, such as rotary frequencies, are no parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from secateur.contract.models.config_reader import ConfigReader


@dataclass(frozen=True)
class BlockCount:
    """Parameters of one block."""

    attention: int  # with the norms that go with it
    mlp: int  # likewise
    shared: int = 0  # of what serves both; all of a block whose halves are not known
    experts: int = 0  # of its mixture; 0 where there is none
    expert: int = 0  # parameters of each, its row of the router included: they are part of `mlp`

    @property
    def total(self) -> int:
        return self.attention + self.mlp + self.shared


@dataclass(frozen=True)
class ParameterCount:
    """Parameters by place. The sums are exact, whatever the dtype."""

    blocks: list[BlockCount]
    embedding: int  # of tokens, and of positions where they are learned
    head: int  # 0 where the head is tied to the embedding
    other: int  # final norm, and projections between embedding and blocks

    @property
    def per_block(self) -> list[int]:
        """All of each block."""
        return [block.total for block in self.blocks]

    @property
    def total(self) -> int:
        return sum(self.per_block) + self.embedding + self.head + self.other


def _linear(inputs: int, outputs: int, bias: bool = False) -> int:
    return inputs * outputs + (outputs if bias else 0)


class Formula(Protocol):
    """What a family's config makes. Raises ZeroDivisionError where it declares no heads."""

    def count(self, config: ConfigReader) -> ParameterCount:
        """All parameters, by place."""
        ...

    def cached(self, config: ConfigReader) -> int:
        """Numbers that the cache keeps for a token in one block, keys and values."""
        ...


@dataclass(frozen=True)
class LlamaLike:
    """Families with RMS norms, separate or fused q, k, v and a gated MLP, and what sets each apart."""

    tied: bool = False  # default of tie_word_embeddings
    head_dim: int | None = None  # default; None means hidden_size / heads
    kv_heads: int | None = None  # default; None means as many as heads
    qkv_bias: bool | str = False  # always, never, or the name of the switch
    bias_default: bool = False  # of the switch
    output_bias: bool | str = False
    mlp_bias: bool | str = False
    heads_divide: bool = False  # whether its config class takes only numbers of heads that divide the hidden size
    norms: int = 2  # of the hidden size, in each block, half of them with the attention
    qk_norm: str | None = None  # "head": over one head; "all": over all heads together

    def count(self, config: ConfigReader) -> ParameterCount:
        hidden = config.number("hidden_size")
        blocks = config.number("num_hidden_layers")
        norms = self.norms // 2 * hidden
        attention = self.attention(config) + norms
        counted = [
            BlockCount(attention, self.mlp(config, number) + norms, 0, *self.mixture(config, number))
            for number in range(blocks)
        ]
        embedding = config.number("vocab_size") * hidden
        tied = config.switch("tie_word_embeddings", self.tied)
        return ParameterCount(counted, embedding, 0 if tied else embedding, hidden)

    def cached(self, config: ConfigReader) -> int:
        _, kv_heads, size = self.heads(config)
        return 2 * kv_heads * size

    def heads(self, config: ConfigReader) -> tuple[int, int, int]:
        """Query heads, key-value heads, and the size of each."""
        hidden, heads = config.number("hidden_size"), config.number("num_attention_heads")
        kv_heads = config.number(
            "num_key_value_heads", default=config.absent("num_key_value_heads", self.kv_heads) or heads
        )
        size = config.number("head_dim", default=config.absent("head_dim", self.head_dim) or hidden // heads)
        return heads, kv_heads, size

    def attention(self, config: ConfigReader) -> int:
        hidden = config.number("hidden_size")
        heads, kv_heads, size = self.heads(config)
        qkv_bias = is_on(self.qkv_bias, config, self.bias_default)
        output_bias = is_on(self.output_bias, config)
        count = _linear(hidden, heads * size, qkv_bias) + 2 * _linear(hidden, kv_heads * size, qkv_bias)
        count += _linear(heads * size, hidden, output_bias)
        if self.qk_norm == "head":
            count += 2 * size
        elif self.qk_norm == "all":
            count += (heads + kv_heads) * size
        return count

    def mlp(self, config: ConfigReader, block: int) -> int:
        return _gated(config.number("hidden_size"), config.number("intermediate_size"), is_on(self.mlp_bias, config))

    def mixture(self, config: ConfigReader, block: int) -> tuple[int, int]:
        """How many experts the block has, and the parameters of each."""
        return 0, 0


@dataclass(frozen=True)
class Mixtral(LlamaLike):
    def mlp(self, config: ConfigReader, block: int) -> int:
        experts, size = self.mixture(config, block)
        return experts * size

    def mixture(self, config: ConfigReader, block: int) -> tuple[int, int]:
        experts = config.number("num_local_experts", "num_experts", default=8)
        hidden = config.number("hidden_size")
        return experts, hidden + _gated(hidden, config.number("intermediate_size"))


@dataclass(frozen=True)
class QwenMoe(LlamaLike):
    experts: int = 60  # default of num_experts
    expert_size: int = 1408  # default of moe_intermediate_size
    shared_size: int | None = None  # default of shared_expert_intermediate_size; None where there is none

    def mixture(self, config: ConfigReader, block: int) -> tuple[int, int]:
        hidden = config.number("hidden_size")
        experts = config.number("num_experts", "num_local_experts", default=self.experts)
        step = config.number("decoder_sparse_step", default=1)
        if block in config.numbers("mlp_only_layers") or experts == 0 or step == 0 or (block + 1) % step:
            return 0, 0
        return experts, hidden + _gated(hidden, config.number("moe_intermediate_size", default=self.expert_size))

    def mlp(self, config: ConfigReader, block: int) -> int:
        hidden = config.number("hidden_size")
        experts, size = self.mixture(config, block)
        if experts == 0:
            return _gated(hidden, config.number("intermediate_size"))
        count = experts * size
        if self.shared_size is not None:
            shared = config.number("shared_expert_intermediate_size", default=self.shared_size)
            count += _gated(hidden, shared) + hidden
        return count


def is_on(bias: bool | str, config: ConfigReader, default: bool = False) -> bool:
    return config.switch(bias, default) if isinstance(bias, str) else bias


def _gated(hidden: int, inner: int, bias: bool = False) -> int:
    return 2 * _linear(hidden, inner, bias) + _linear(inner, hidden, bias)


def _stablelm(config: ConfigReader) -> ParameterCount:
    hidden, heads = config.number("hidden_size"), config.number("num_attention_heads")
    kv_heads = config.number("num_key_value_heads", default=config.absent("num_key_value_heads", 32) or heads)
    size = config.number("head_dim", default=hidden // heads)
    bias = config.switch("use_qkv_bias", default=False)
    attention = _linear(hidden, heads * size, bias) + 2 * _linear(hidden, kv_heads * size, bias)
    attention += _linear(heads * size, hidden)
    if config.switch("qk_layernorm", default=False):
        attention += (heads + kv_heads) * size
    mlp, norm = _gated(hidden, config.number("intermediate_size")), 2 * hidden
    if config.switch("use_parallel_residual", default=False):  # one norm before both
        block = BlockCount(attention, mlp, norm)
    else:
        block = BlockCount(attention + norm, mlp + norm)
    embedding = config.number("vocab_size") * hidden
    head = 0 if config.switch("tie_word_embeddings", default=False) else embedding
    return ParameterCount([block] * config.number("num_hidden_layers"), embedding, head, 2 * hidden)


def _gpt2(config: ConfigReader) -> ParameterCount:
    hidden = config.number("n_embd", "hidden_size")
    inner = config.number("n_inner", default=4 * hidden)
    attention = _linear(hidden, 3 * hidden, True) + _linear(hidden, hidden, True) + 2 * hidden
    mlp = _linear(hidden, inner, True) + _linear(inner, hidden, True) + 2 * hidden
    block = BlockCount(attention, mlp)
    tokens = config.number("vocab_size") * hidden
    positions = config.number("n_positions", "max_position_embeddings", default=1024) * hidden
    head = 0 if config.switch("tie_word_embeddings", default=True) else tokens
    return ParameterCount([block] * config.number("n_layer", "num_hidden_layers"), tokens + positions, head, 2 * hidden)


def _opt(config: ConfigReader) -> ParameterCount:
    hidden, inner = config.number("hidden_size"), config.number("ffn_dim")
    width = config.number("word_embed_proj_dim", default=hidden)
    bias = config.switch("enable_bias", default=True)
    norm = 2 * hidden if config.switch("layer_norm_elementwise_affine", default=True) else 0
    mlp = _linear(hidden, inner, bias) + _linear(inner, hidden, bias) + norm
    block = BlockCount(4 * _linear(hidden, hidden, bias) + norm, mlp)
    tokens = config.number("vocab_size") * width
    positions = (config.number("max_position_embeddings", default=2048) + 2) * hidden
    other = 2 * _linear(width, hidden) if width != hidden else 0
    if config.switch("do_layer_norm_before", default=True) and not config.switch("_remove_final_layer_norm", False):
        other += norm
    head = 0 if config.switch("tie_word_embeddings", default=True) else tokens
    return ParameterCount([block] * config.number("num_hidden_layers"), tokens + positions, head, other)


def _gpt_neox(config: ConfigReader) -> ParameterCount:
    hidden, inner = config.number("hidden_size"), config.number("intermediate_size")
    bias = config.switch("attention_bias", default=True)
    attention = _linear(hidden, 3 * hidden, bias) + _linear(hidden, hidden, bias) + 2 * hidden
    block = BlockCount(attention, _linear(hidden, inner, True) + _linear(inner, hidden, True) + 2 * hidden)
    embedding = config.number("vocab_size") * hidden
    head = 0 if config.switch("tie_word_embeddings", default=False) else embedding
    return ParameterCount([block] * config.number("num_hidden_layers"), embedding, head, 2 * hidden)


def _falcon(config: ConfigReader) -> ParameterCount:
    hidden = config.number("hidden_size", "n_embed")
    heads = config.number("num_attention_heads", "n_head")
    size = hidden // heads
    bias = config.switch("bias", default=False)
    grouped = config.switch("new_decoder_architecture", default=False)
    parallel = config.switch("parallel_attn", default=True)
    if grouped:
        outputs = (heads + 2 * config.number("num_kv_heads", "n_head_kv", default=heads)) * size
    elif config.switch("multi_query", default=True):
        outputs = hidden + 2 * size
    else:
        outputs = 3 * hidden
    inner = config.number("ffn_hidden_size", default=4 * hidden)
    attention = _linear(hidden, outputs, bias) + _linear(hidden, hidden, bias)
    mlp, norm = _linear(hidden, inner, bias) + _linear(inner, hidden, bias), 2 * hidden
    two_norms = not parallel if not grouped else config.number("num_ln_in_parallel_attn", default=2) == 2
    if two_norms or (grouped and not parallel):
        block = BlockCount(attention + norm, mlp + norm)
    else:
        block = BlockCount(attention, mlp, norm)
    embedding = config.number("vocab_size") * hidden
    head = 0 if config.switch("tie_word_embeddings", default=True) else embedding
    return ParameterCount([block] * config.number("num_hidden_layers", "n_layer"), embedding, head, 2 * hidden)


def _same_heads(config: ConfigReader, heads: int) -> int:
    return heads


def _stablelm_heads(config: ConfigReader, heads: int) -> int:
    return config.number("num_key_value_heads", default=config.absent("num_key_value_heads", 32) or heads)


def _falcon_heads(config: ConfigReader, heads: int) -> int:
    """Falcon's newer blocks share keys among heads, but transformers caches them once for every head."""
    shared = config.switch("multi_query", default=True) and not config.switch("new_decoder_architecture", default=False)
    return 1 if shared else heads


@dataclass(frozen=True)
class Written:
    """A family whose blocks are unlike the others', by a function of its own."""

    parameters: Callable[[ConfigReader], ParameterCount]
    neurons: str = "intermediate_size"  # the config entry that sets the number of the MLP's neurons
    down_bias: str | bool = True  # whether the MLP's last projection has one: always, never, or a switch
    kv_heads: Callable[[ConfigReader, int], int] = _same_heads  # of so many heads

    def count(self, config: ConfigReader) -> ParameterCount:
        return self.parameters(config)

    def cached(self, config: ConfigReader) -> int:
        hidden = config.number("hidden_size", "n_embd", "n_embed")
        heads = config.number("num_attention_heads", "n_head")
        return 2 * self.kv_heads(config, heads) * config.number("head_dim", default=hidden // heads)


STABLELM = Written(_stablelm, down_bias=False, kv_heads=_stablelm_heads)
GPT2 = Written(_gpt2, "n_inner")
OPT = Written(_opt, "ffn_dim", "enable_bias")
GPT_NEOX = Written(_gpt_neox)
FALCON = Written(_falcon, "ffn_hidden_size", "bias", _falcon_heads)
