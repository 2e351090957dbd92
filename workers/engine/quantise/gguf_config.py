"""What a GGUF file says of a model's config, and which configs it cannot say.

The keys are llama.cpp's. A config is refused where its keys would be read as another model: by llama.cpp, or by this
project's own reader, which the benchmarks rely on. A rotary embedding that is scaled has keys of its own; Llama 3.1's
rule has none, and is written as what it gives, a divisor for each frequency. A Llama some of whose blocks lost their
attention is written as `deci`, which has the heads of each block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import gguf
import torch
from torch import Tensor
from transformers import PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from secateur.contract.errors import InvalidInput, UnsupportedModel
from secateur.contract.models.families import family_of, model_types
from workers.engine.architectures.config import as_config
from workers.engine.checkpoints.gguf_file import ARRAY, STRING, encode_value
from workers.engine.checkpoints.own_loader import family_config, lost_halves, needs_loader
from workers.engine.quantise.gguf_gemma import FAMILIES as GEMMAS
from workers.engine.quantise.gguf_gemma import gemma_keys, gemma_reason
from workers.engine.quantise.gguf_tokenizer import INT32, UINT32

FLOAT32 = 6  # value type
DECI = "deci"  # a Llama whose blocks have each their own number of heads, 0 among them
# model type → llama.cpp's
ARCHITECTURES = {name: row.gguf for name in model_types(written_as_gguf=True) if (row := family_of(name)) and row.gguf}
_HEADS = ("attention.head_count", "attention.head_count_kv")
# Scalings of the rotary embedding by architecture; the others have the first two.
_SCALED = {"llama": ("linear", "yarn", "llama3"), **dict.fromkeys(GEMMAS, ("linear",))}
# Whether the weights of the chosen experts are made to sum to 1, which llama.cpp knows of a type and no key says.
_SHARES = {"qwen2_moe": False, "qwen3_moe": True}


def supported(written: Mapping[str, Any]) -> PretrainedConfig:
    """The config of a model that the file can say everything about.

    Args:
        written: config.json.

    Raises:
        UnsupportedModel: with the reason.
    """

    def refuse(reason: str) -> InvalidInput:
        return UnsupportedModel.field("kind", reason, expected=expected)

    expected = f"a plain model of one of the types {', '.join(sorted(ARCHITECTURES))}"
    without: dict[int, list[str]] = {}
    if needs_loader(written):
        without = lost_halves(written)
        written = family_config(written)
        if any("mlp" in halves for halves in without.values()):
            raise refuse("llama.cpp leaves out a block that has no MLP, attention and all.")
        if not without:
            raise refuse("Blocks of different widths cannot be said in a GGUF file.")
        if written["model_type"] != "llama":
            raise refuse("Blocks without attention can be said in a GGUF file of a Llama alone.")
        if 0 in without:
            raise refuse("llama.cpp reads the size of a head off the first block, which has no attention.")
    if written.get("quantization_config") is not None:
        raise refuse("The model's weights are quantised already.")
    config: Any = as_config(dict(written))
    if config.model_type not in ARCHITECTURES:
        raise refuse(f'Models of the type "{config.model_type}" are not written as GGUF here.')
    if reason := _rope_reason(config):
        raise refuse(reason)
    family = ARCHITECTURES[config.model_type]
    if family in GEMMAS and (reason := gemma_reason(config, family)):
        raise refuse(reason)
    window = getattr(config, "sliding_window", None)
    has_window = window and window < config.max_position_embeddings and getattr(config, "use_sliding_window", True)
    if has_window and family not in GEMMAS:
        raise refuse("The attention has a sliding window, which llama.cpp would not keep for this type.")
    if config.model_type not in ("llama", "qwen2", "qwen2_moe") and getattr(config, "attention_bias", False):
        raise refuse("The projections have biases that this type has not in a GGUF file.")
    if getattr(config, "mlp_only_layers", None) or getattr(config, "decoder_sparse_step", 1) != 1:
        raise refuse("Some blocks are no mixture of experts, which a GGUF file cannot say.")
    if config.model_type in _SHARES and config.norm_topk_prob is not _SHARES[config.model_type]:
        raise refuse(f"norm_topk_prob is {config.norm_topk_prob}, and this type has the other in a GGUF file.")
    activation = getattr(config, "hidden_activation", None) or config.hidden_act
    wanted = "gelu_pytorch_tanh" if family in GEMMAS else "silu"
    if activation != wanted:
        raise refuse(f'The activation is "{activation}", and this type has {wanted} in a GGUF file.')
    config.without_attention = frozenset(without)
    return config  # type: ignore[no-any-return]  # Any, for its family's fields


def architecture(config: Any) -> str:
    """What the file says under `general.architecture`; config as `supported` gives it."""
    return DECI if config.without_attention else ARCHITECTURES[config.model_type]


def _rope(config: Any) -> Mapping[str, Any]:
    """The rotary embedding; in Gemma 3 that of the blocks that see everything: those with a window have another."""
    rope: Mapping[str, Any] = config.rope_parameters or {}
    return rope["full_attention"] if ARCHITECTURES[config.model_type] == "gemma3" else rope


def _rope_reason(config: Any) -> str | None:
    """Why the rotary embedding cannot be written; None if it can."""
    rope = _rope(config)
    kind = rope.get("rope_type", "default")
    if kind not in ("default", *_SCALED.get(ARCHITECTURES[config.model_type], ("linear", "yarn"))):
        return f'The rotary embedding is scaled ("{kind}"), which is not written as GGUF for this type.'
    if rope.get("partial_rotary_factor", 1.0) != 1:
        return "A part of each head is rotated, and this type has the whole in a GGUF file."
    if kind == "yarn" and rope.get("truncate", True) is not True:
        return "YaRN's range is not rounded to whole dimensions, as llama.cpp does."
    return None


def config_keys(config: Any, name: str, file_type: int | None) -> Iterator[bytes]:
    """Keys of the model itself.

    Args:
        config: as `supported` gives it.
        name: the model's.
        file_type: llama.cpp's number of the kind of file, which says how its types are mixed; None if it has none.
    """
    name_in_file = architecture(config)
    yield encode_value("general.architecture", STRING, name_in_file)
    yield encode_value("general.name", STRING, name)
    if file_type is not None:
        yield encode_value("general.file_type", UINT32, file_type)
    yield encode_value("general.quantization_version", UINT32, gguf.GGML_QUANT_VERSION)
    size = head_size(config)
    numbers: dict[str, int | None] = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": size,
        "attention.value_length": size,
        "rope.dimension_count": size,
        "vocab_size": config.vocab_size,
        **_expert_numbers(config),
    }
    for key, number in numbers.items():
        if key in _HEADS and config.without_attention:
            each = [0 if block in config.without_attention else number for block in range(config.num_hidden_layers)]
            yield encode_value(f"{name_in_file}.{key}", ARRAY, each, element=INT32)
        elif number is not None:
            yield encode_value(f"{name_in_file}.{key}", UINT32, int(number))
    yield encode_value(f"{name_in_file}.attention.layer_norm_rms_epsilon", FLOAT32, float(config.rms_norm_eps))
    keys = {f"rope.{key}": value for key, value in _rope_keys(_rope(config), config.max_position_embeddings).items()}
    if name_in_file in GEMMAS:
        keys |= gemma_keys(config, name_in_file)
    for key, value in keys.items():
        kind = {str: STRING, int: UINT32, float: FLOAT32}[type(value)]
        yield encode_value(f"{name_in_file}.{key}", kind, value)


def _expert_numbers(config: Any) -> dict[str, int | None]:
    """Of a mixture; a config may have kept some of these entries where the model has no experts."""
    count = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None)
    if not count:
        return {}
    return {
        "expert_count": count,
        "expert_used_count": getattr(config, "num_experts_per_tok", None),
        "expert_feed_forward_length": getattr(config, "moe_intermediate_size", None),
        "expert_shared_feed_forward_length": getattr(config, "shared_expert_intermediate_size", None) or None,
    }


def head_size(config: Any) -> int:
    """Dimensions of a head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _rope_keys(rope: Mapping[str, Any], context: int) -> dict[str, str | int | float]:
    keys: dict[str, str | int | float] = {"freq_base": float(rope.get("rope_theta", 10000.0))}
    kind = rope.get("rope_type", "default")
    if kind == "linear":
        keys |= {"scaling.type": kind, "scaling.factor": float(rope["factor"])}
    elif kind == "yarn":
        original = int(rope["original_max_position_embeddings"])
        factor = float(rope.get("factor") or context / original)
        keys |= {"scaling.type": kind, "scaling.factor": factor, "scaling.original_context_length": original}
        # llama.cpp multiplies its own, which is the paper's, by the key's
        if (attention := _yarn_attention(rope, factor)) is not None:
            keys["scaling.attn_factor"] = attention / _magnitude(factor, 1.0)
        for end in ("beta_fast", "beta_slow"):
            if rope.get(end):
                keys[f"scaling.yarn_{end}"] = float(rope[end])
    return keys


def _yarn_attention(rope: Mapping[str, Any], factor: float) -> float | None:
    """By what cosine and sine are multiplied; None where it is the paper's."""
    if rope.get("attention_factor") is not None:
        return float(rope["attention_factor"])
    if rope.get("mscale") and rope.get("mscale_all_dim"):
        return _magnitude(factor, rope["mscale"]) / _magnitude(factor, rope["mscale_all_dim"])
    return None


def _magnitude(factor: float, scale: float) -> float:
    """YaRN's rule for long contexts (Peng et al. 2023, arXiv 2309.00071)."""
    return 0.1 * scale * math.log(factor) + 1 if factor > 1 else 1.0


def rope_divisors(config: Any) -> Tensor | None:
    """What Llama 3.1's rule divides each frequency by, (head / 2); None for other rotary embeddings."""
    rope = _rope(config)
    if rope.get("rope_type") != "llama3":
        return None
    size = head_size(config)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 1 / float(rope["rope_theta"]) ** (torch.arange(0, size, 2, dtype=torch.float64) / size)
    return (plain / scaled.double()).float()
