"""What a GGUF file says of Gemma 1 to 3 beside every model's keys: windows, caps on logits, a second rotary base.

Which blocks have a sliding window is a period in the file, and no list. A depth-pruned Gemma can be written where its
blocks still have a period, which need not be the family's own. By what attention is scaled no key says either.
"""

from __future__ import annotations

from typing import Any

FAMILIES = ("gemma", "gemma2", "gemma3")  # llama.cpp's names
_PERIODS = {"gemma2": 2, "gemma3": 6}  # the family's own; the last block of each period sees everything
_27B = {"gemma2": 46, "gemma3": 62}  # blocks, by which llama.cpp knows these models


def gemma_reason(config: Any, family: str) -> str | None:
    """Why a model cannot be written; None if it can."""
    if not config.tie_word_embeddings:
        return "The head is a tensor of its own, which llama.cpp does not read in this family."
    if getattr(config, "use_bidirectional_attention", None):
        return "The attention sees what follows, which this family does not in a GGUF file."
    if family == "gemma":
        return None
    blocks = config.num_hidden_layers
    scale = config.hidden_size // config.num_attention_heads if blocks == _27B[family] else config.head_dim
    if config.query_pre_attn_scalar != scale:
        return f"The attention is scaled by {config.query_pre_attn_scalar}, and llama.cpp scales it by {scale}."
    slides = _slides(config)
    if _period(slides, _PERIODS[family]) is None:
        return "Which blocks have a sliding window has no period, and a GGUF file of this family says one."
    if family == "gemma2":
        if not any(slides):
            return "No block has a sliding window, which a GGUF file of this family cannot say."
        if not (config.attn_logit_softcapping and config.final_logit_softcapping):
            return "Logits have no caps, which a GGUF file of this family cannot say."
    elif config.attn_logit_softcapping:
        return "The logits of attention are capped, which llama.cpp does not do in this family."
    elif config.rope_parameters["sliding_attention"].get("rope_type", "default") != "default":
        return "The rotary embedding of the blocks with a window is scaled, which a GGUF file cannot say."
    return None


def gemma_keys(config: Any, family: str) -> dict[str, int | float]:
    """Keys without the family's name, of a config that can be written."""
    if family == "gemma":
        return {}
    keys: dict[str, int | float] = {}
    slides = _slides(config)
    if any(slides):
        keys["attention.sliding_window"] = config.sliding_window
        period = _period(slides, _PERIODS[family])
        if period != _PERIODS[family]:
            keys["attention.sliding_window_pattern"] = int(period or 0)
    for cap in ("attn_logit_softcapping", "final_logit_softcapping"):
        if value := getattr(config, cap):
            keys[cap] = float(value)
    if family == "gemma3":
        keys["rope.freq_base_swa"] = float(config.rope_parameters["sliding_attention"]["rope_theta"])
    return keys


def _slides(config: Any) -> list[bool]:
    return [kind == "sliding_attention" for kind in config.layer_types]


def _period(slides: list[bool], usual: int) -> int | None:
    """The period of the blocks' windows, the usual one if it fits; None if there is none."""
    blocks = range(len(slides))
    tried: list[int] = [usual, *range(1, len(slides) + 2)]
    return next((period for period in tried if slides == [(number + 1) % period != 0 for number in blocks]), None)
