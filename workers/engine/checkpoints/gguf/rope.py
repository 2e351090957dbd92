"""Rotary embeddings: from a GGUF file's keys and factors to transformers' `rope_parameters`.

llama.cpp scales positions by a factor ("linear", which it also takes where a factor stands without a type), by YaRN
(Peng et al. 2023, arXiv 2309.00071), or frequency by frequency, by tensors of divisors: `rope_freqs.weight` for
Llama 3.1's rule, and two for LongRoPE (Ding et al. 2024, arXiv 2402.13753). The rule of Llama 3.1 is not written in the
file but what it gives, so the rule's numbers are sought that give the same, and tried.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from workers.engine.checkpoints.gguf.source import Source

FACTORS = "rope_freqs.weight"
LONG, SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
_NEAR = 2e-5  # of a frequency, relative: the divisors are float32
# Llama 3.1, 3.2 and 3.3: low and high frequency factor, and the context before.
_LLAMA3 = (1.0, 4.0, 8192)


def rope_parameters(source: Source, *, size: int, context: int, kinds: tuple[str, ...]) -> dict[str, Any]:
    """What a config says of its rotary embedding.

    Args:
        size: dimensions that are rotated.
        context: the model's positions.
        kinds: those that transformers has for the family, of "linear", "yarn", "llama3" and "longrope".

    Raises:
        UnsupportedModel: the file scales in a way that the family has no place for.
        BadCheckpoint: a key or tensor of the scaling is broken.
    """
    theta = source.real("rope.freq_base", 10000.0)
    if theta <= 1:
        raise source.bad(f"the rotary embedding's base is {theta}, and one over 1 is expected")
    factors = {name: _factors(source, name, size) for name in (FACTORS, LONG, SHORT) if name in source.tensors}
    kind = source.text("rope.scaling.type", "linear")
    factor = source.real("rope.scaling.factor", 0.0)
    old_factor = source.real("rope.scale_linear", 0.0)  # the key's name before 2023-10
    factor = factor or old_factor or 1.0
    if factor < 0:
        raise source.bad(f"the rotary embedding is scaled by {factor}, and a positive factor is expected")
    scaled = {"rope_theta": theta, **_scaling(source, kind, factor, context)}
    if factors:
        if scaled["rope_type"] not in ("default", "longrope"):
            raise source.unsupported(f"the rotary embedding is scaled twice, by {kind} and by a tensor")
        scaled |= _by_factors(source, factors, theta, size, context)
    elif scaled["rope_type"] == "longrope":
        raise source.bad(f"the rotary embedding is scaled by longrope, and the tensor {LONG!r} is missing")
    if scaled["rope_type"] not in ("default", *kinds):
        kind = scaled["rope_type"]
        raise source.unsupported(
            f"the rotary embedding is scaled by {kind}, which transformers has not for {source.architecture}"
        )
    return scaled


def _scaling(source: Source, kind: str, factor: float, context: int) -> dict[str, Any]:
    original = source.whole("rope.scaling.original_context_length", context)  # YaRN and LongRoPE alone heed it
    if kind == "none" or (kind == "linear" and factor == 1):
        return {"rope_type": "default"}
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    if kind == "longrope":
        if factor != 1:
            raise source.unsupported("the rotary embedding is scaled twice, by longrope and by a factor")
        return {"rope_type": "longrope"}
    if kind != "yarn":
        raise source.unsupported(f"the rotary embedding is scaled by {kind!r}")
    if source.real("rope.scaling.yarn_ext_factor", 1.0) not in (1.0, -1.0):
        raise source.unsupported("the key 'rope.scaling.yarn_ext_factor' is neither 1 nor the default")
    if source.real("rope.scaling.yarn_attn_factor", 1.0) != 1:
        raise source.unsupported("the key 'rope.scaling.yarn_attn_factor' is not 1")
    more = source.real("rope.scaling.attn_factor", 1.0)
    if factor < 1 or original < 1:
        raise source.bad(f"YaRN scales {original} positions by {factor}, and at least 1 of each is expected")
    values: dict[str, Any] = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
    if more != 1:
        values["attention_factor"] = more * (1 + 0.1 * math.log(factor))
    for key in ("beta_fast", "beta_slow"):
        if source.has(f"rope.scaling.yarn_{key}"):
            values[key] = source.real(f"rope.scaling.yarn_{key}")
    return values


def _factors(source: Source, name: str, size: int) -> Tensor:
    wanted = f"the {size // 2} positive numbers that {size} rotated dimensions need"
    if source.shape(name) != (size // 2,):
        raise source.bad(f"the tensor {name!r} has not {wanted}")
    values = source.load(name)
    if not bool(((values > 0) & values.isfinite()).all()):
        raise source.bad(f"the tensor {name!r} has not {wanted}")
    return values


def _by_factors(source: Source, factors: dict[str, Tensor], theta: float, size: int, context: int) -> dict[str, Any]:
    if FACTORS in factors:
        if len(factors) > 1:
            raise source.unsupported("the rotary embedding has divisors of two kinds")
        return _llama3(source, factors[FACTORS], theta, size, context)
    if len(factors) == 1:
        raise source.bad(f"of the tensors {LONG!r} and {SHORT!r} one is missing")
    return {
        "rope_type": "longrope",
        "long_factor": [float(str(value)) for value in factors[LONG].numpy()],
        "short_factor": [float(str(value)) for value in factors[SHORT].numpy()],
        "attention_factor": source.real("rope.scaling.attn_factor", 1.0),
        "original_max_position_embeddings": source.whole("rope.scaling.original_context_length", context),
    }


def _llama3(source: Source, divisors: Tensor, theta: float, size: int, context: int) -> dict[str, Any]:
    """The numbers of Llama 3.1's rule that give these divisors."""
    if bool((divisors == 1).all()):
        return {"rope_type": "default"}
    factor = float(f"{divisors.max().item():.7g}")
    plain = 1 / theta ** (torch.arange(0, size, 2, dtype=torch.float64) / size)
    wanted = plain / divisors.double()
    for low, high, original in [_LLAMA3, *_solved(divisors.double(), plain, factor)]:
        if original < 1 or not 0 < low < high:
            continue
        if torch.allclose(_llama3_frequencies(plain, factor, low, high, original), wanted, rtol=_NEAR, atol=0):
            return {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low,
                "high_freq_factor": high,
                "original_max_position_embeddings": original,
            }
    raise source.unsupported(f"the tensor {FACTORS!r} scales the rotary embedding in no way that is known here")


def _llama3_frequencies(plain: Tensor, factor: float, low: float, high: float, original: int) -> Tensor:
    """Slow waves are divided by the factor, fast ones stay, and those between go over from one to the other."""
    turns = original * plain / (2 * math.pi)  # of each wave within the original context
    smooth = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - smooth) * plain / factor + smooth * plain


def _solved(divisors: Tensor, plain: Tensor, factor: float) -> list[tuple[float, float, int]]:
    """Rules that may give the divisors, found from those between 1 and the factor: low and high factor, and context.

    How far a wave has gone over is a straight line in its frequency. Its two numbers stand for three in the rule, so
    the context may be any: Llama's is tried with Llama's factors first, then one with factors to fit.
    """
    turns = plain / (2 * math.pi)  # for each position of the context
    fast, slow = divisors <= 1 + 1e-6, divisors >= factor * (1 - 1e-6)
    between = ~fast & ~slow
    smooth = (1 / divisors[between] - 1 / factor) / (1 - 1 / factor)
    context = _LLAMA3[2]
    if len(smooth) == 0:
        if not bool(fast.any() and slow.any()):
            return []
        return [(context * turns[slow].max().item(), context * turns[fast].min().item(), context)]
    found = [(1.0, 4.0, round(((1 + 3 * smooth) / turns[between]).mean().item()))]
    if len(smooth) == 1:
        # a line through one point, as steep as its neighbours need it to leave them alone
        wave, gone = context * turns[between][0].item(), smooth[0].item()
        below = wave - (context * turns[slow].max().item() if bool(slow.any()) else 0.0)
        above = (context * turns[fast].min().item() if bool(fast.any()) else 2 * wave) - wave
        width = 0.5 * min(below / gone, above / (1 - gone))
        return [*found, (wave - gone * width, wave + (1 - gone) * width, context)]
    first, last = turns[between][0].item(), turns[between][-1].item()
    slope = (smooth[0].item() - smooth[-1].item()) / (first - last) / context
    offset = smooth[0].item() - slope * context * first  # smooth = slope · context · turns + offset
    return [*found, (-offset / slope, (1 - offset) / slope, context)] if slope > 0 else found
