"""What `estimates.py` measures: one stage of each kind and method, as short as real sizes allow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, get_args

from secateur.contract.options.quantise import GGUF_TYPES as GGUF_NAMES

NOTHING = {"kind": "none"}
UNTIMED: dict[str, Any] = {"latency": None, "samples": None, "generation": None, "perplexity": None}
GGUF_TYPES = get_args(GGUF_NAMES)


@dataclass(frozen=True)
class Case:
    """One stage that is run alone, after others whose output it reads."""

    name: str
    kind: str
    sections: dict[str, Any] = field(default_factory=dict)  # of the spec, beside model and recovery
    after: tuple[str, ...] = ("check",)


def cases(words: dict[str, Any], blocks: int, target: dict[str, Any]) -> list[Case]:
    """Of a dense model with so many blocks.

    Args:
        words: the text, as a spec names one.
        target: a model with the same tokenizer, for drafts.
    """
    first = blocks // 3
    depth = {"pruning": {"kind": "depth", "drop": list(range(first, first + blocks // 5))}}
    text = {"text": words, "samples": 2, "tokens": 128}
    found = [Case("check", "check", depth, ())]
    found += [Case(f"score by {name}", "score", section) for name, section in _scorings(text).items()]
    found += [Case(f"prune {name}", "prune", {"pruning": section}) for name, section in _prunings(text, depth).items()]
    cut = ("check", "prune blocks")
    found += [
        Case(f"recover by {name}", "recover", {**depth, "recovery": section}, cut)
        for name, section in _recoveries(words).items()
    ]
    found += [
        Case(f"quantise to {name}", "quantise", {**depth, "quantise": section}, cut)
        for name, section in _ways(words).items()
    ]
    for name in ("attention of 3 blocks", "by Wanda-sp", "the vocabulary"):
        pruning = _prunings(text, depth)[name]
        for way in ("Q8_0", "Q4_K_M", *(() if "attention" in name else ("int8",))):
            sections = {"pruning": pruning, "quantise": _ways(words)[way]}
            found.append(Case(f"quantise, {name}, to {way}", "quantise", sections, ("check", f"prune {name}")))
    found += _benchmarks(words, depth, cut)
    found += _speeds(text, blocks)
    return [*found, *_decisions(words, text, blocks), *_drafts(words, text, depth, cut, target)]


def _scorings(text: dict[str, Any]) -> dict[str, dict[str, Any]]:
    few = {"pruning": {"kind": "depth", "blocks": 2}}
    options: dict[str, dict[str, Any]] = {
        "perplexity": {},
        "perplexity, racing": {"racing": True},
        "taylor": {},
        "block_influence": {},
        "block_influence, 40 samples": {"calibration": {**text, "samples": 40}},
        "angular": {},
        "cosine": {},
        "greedy": {},
        "healed_greedy": {},
        "evolutionary": {"evaluations": 4, "initial": 2, "offspring": 2},
    }
    found = {
        name: {**few, "scoring": {"criterion": name.split(",")[0], "calibration": text, **more}}
        for name, more in options.items()
    }
    return {**found, "magnitude": {**few, "scoring": {"criterion": "magnitude"}}}


def _prunings(text: dict[str, Any], depth: dict[str, Any]) -> dict[str, dict[str, Any]]:
    few, many = text, {**text, "samples": 40}  # more tokens than go through a block at once
    return {
        "blocks": depth["pruning"],
        "attention of 3 blocks": {"kind": "sub_block", "drop": [f"{block}.attention" for block in (3, 5, 7)]},
        "MLP of 2 blocks": {"kind": "sub_block", "drop": ["3.mlp", "5.mlp"]},
        "halves that are searched": {"kind": "sub_block", "units": 1, "calibration": few},
        "jointly": {
            "kind": "joint",
            "target": {"parameters": 0.9},
            "evaluations": 4,
            "calibration": few,
            "healing": None,
        },
        "jointly, healed": {
            "kind": "joint",
            "target": {"parameters": 0.9},
            "evaluations": 4,
            "calibration": few,
            "healing": {**text, "samples": 16},
        },
        "by Wanda-sp": {"kind": "wanda_sp", "ratio": 0.2, "calibration": few},
        "by Wanda-sp, 40 samples": {"kind": "wanda_sp", "ratio": 0.2, "calibration": many},
        "by FLAP": {"kind": "flap", "ratio": 0.2, "calibration": few},
        "by FLAP, 40 samples": {"kind": "flap", "ratio": 0.2, "calibration": many},
        "by FLAP, uneven": {"kind": "flap", "ratio": 0.2, "uniform": False, "calibration": few},
        "by FLAP without biases": {"kind": "flap", "ratio": 0.2, "compensate": False, "calibration": few},
        "by LLM-Pruner": {"kind": "llm_pruner", "ratio": 0.2, "calibration": few},
        "by LLM-Pruner, 40 samples": {"kind": "llm_pruner", "ratio": 0.2, "calibration": many},
        "by LLM-Pruner, its ends whole": {
            "kind": "llm_pruner",
            "ratio": 0.15,
            "uniform": False,
            "calibration": few,
        },
        "the vocabulary": {"kind": "vocabulary", "tokens": 24000, "text": text["text"]},
    }


def _recoveries(words: dict[str, Any]) -> dict[str, dict[str, Any]]:
    shape = {"text": words, "batch_size": 4, "micro_batch_size": 4, "tokens": 128, "max_steps": 2, "warmup_steps": 0}
    parts = {**shape, "micro_batch_size": 2}
    longer = {**shape, "batch_size": 2, "micro_batch_size": 2, "tokens": 512}
    fitted = {"kind": "healing", "text": words, "own_text": 0, "samples": 16, "tokens": 128}
    plain = {"kind": "distill", "heal": False}
    return {
        "LoRA": {"kind": "lora", **shape},
        "LoRA, 2 × 512 tokens": {"kind": "lora", **longer},
        "DoRA": {"kind": "lora", "dora": True, **shape},
        "LoRA of rank 64": {"kind": "lora", "rank": 64, **shape},
        "distillation, adapters": {**plain, "train": "lora", **shape},
        "distillation, all weights": {**plain, "train": "all", **shape},
        "distillation, all weights, in parts": {**plain, "train": "all", **parts},
        "distillation, all weights, 2 × 512 tokens": {**plain, "train": "all", **longer},
        "distillation, after the cut": {**plain, "train": "after_cut", **shape},
        "distillation, last blocks": {**plain, "train": "last_blocks", **shape},
        "distillation, 1024 predictions": {**plain, "train": "lora", "top_k": 1024, **shape},
        "distillation, states too": {**plain, "train": "lora", "hidden_weight": 1, **shape},
        "distillation, validated": {**plain, "train": "all", **shape, "samples": 20, "validation": 0.2},
        "distillation, healed first": {"kind": "distill", "heal": True, "train": "lora", **shape, "samples": 16},
        "continued training": {"kind": "continued", **shape},
        "continued training, states kept": {"kind": "continued", "gradient_checkpointing": False, **shape},
        "continued training, last blocks": {"kind": "continued", "train": "last_blocks", **shape},
        "healing": fitted,
        "healing, 96 samples": {**fitted, "samples": 96},
        "healing before the cut alone": {**fitted, "refit": "none"},
        "healing, neurons too": {**fitted, "neurons": 0.25},
    }


def _ways(words: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    text = {"text": words, "samples": 4, "tokens": 128}
    files = {type_: [{"kind": "gguf", "type": type_}] for type_ in ("Q8_0", "Q4_K_M")}
    several = [{"kind": "gguf", "type": type_} for type_ in GGUF_TYPES]
    return {
        "int8": [{"kind": "int8"}],
        "int4": [{"kind": "int4"}],
        "int4 in groups of 64": [{"kind": "int4", "group_size": 64}],
        "GPTQ": [{"kind": "gptq", "calibration": text}],
        "GPTQ, 32 samples": [{"kind": "gptq", "calibration": {**text, "samples": 32}}],
        **files,
        "the finer files": several[:8],
        "the coarser files": several[8:],
    }


def _benchmarks(words: dict[str, Any], depth: dict[str, Any], cut: tuple[str, ...]) -> list[Case]:
    latency = {"output_tokens": [8], "warmup": 0, "runs": 3, "engines": ["transformers"]}
    perplexity = {"texts": [words], "windows": 4}
    parts: dict[str, dict[str, Any]] = {
        "reading": {"perplexity": perplexity},
        "reading 34 windows": {"perplexity": {**perplexity, "windows": 34}},
        "timing": {"latency": latency},
        "timing, reading and writing": {
            "latency": latency,
            "perplexity": perplexity,
            "samples": {"max_new_tokens": 8},
            "generation": {"prompts": 4, "max_new_tokens": 8},
        },
        "writing": {"samples": {"max_new_tokens": 8}, "generation": {"prompts": 4, "max_new_tokens": 8}},
    }
    found = [
        Case(f"benchmark, {name}", "benchmark", {**depth, "benchmark": {**UNTIMED, **part}}, cut)
        for name, part in parts.items()
    ]
    for name in ("int8", "int4", "Q8_0", "Q4_K_M"):
        quantised = {**depth, "quantise": _ways(words)[name], "benchmark": {**UNTIMED, "perplexity": perplexity}}
        found.append(Case(f"benchmark, {name}", "benchmark", quantised, (*cut, f"quantise to {name}")))
    timed = {**depth, "quantise": _ways(words)["Q8_0"], "benchmark": {**UNTIMED, "latency": latency}}
    found.append(Case("benchmark, Q8_0 timed", "benchmark", timed, (*cut, "quantise to Q8_0")))
    recovery = _recoveries(words)["LoRA"]
    recovered = {**depth, "recovery": recovery, "benchmark": {**UNTIMED, "latency": latency, "perplexity": perplexity}}
    found.append(Case("benchmark, recovered", "benchmark", recovered, (*cut, "recover by LoRA")))
    sizes = {**depth, "recovery": recovery, "sizes": {"blocks": [2]}}
    return [*found, Case("sizes in between", "sizes", sizes, (*cut, "recover by LoRA"))]


def _speeds(text: dict[str, Any], blocks: int) -> list[Case]:
    """Of a model of thirty blocks: a tenth, a fifth and a third of them gone, and as much as a fifth in width."""
    latency = {"output_tokens": [24], "warmup": 1, "runs": 9, "engines": ["transformers"]}
    kinds: dict[str, dict[str, Any]] = {
        f"{count} blocks fewer": {"kind": "depth", "drop": list(range(blocks // 3, blocks // 3 + count))}
        for count in (3, 6, 10)
    }
    kinds["narrower blocks"] = {"kind": "wanda_sp", "ratio": 0.158, "calibration": {**text, "samples": 4}}
    found = []
    for name, pruning in kinds.items():
        sections = {"pruning": pruning, "benchmark": {**UNTIMED, "latency": latency}}
        found.append(Case(f"prune: {name}", "prune", sections))
        found.append(Case(f"speed: {name}", "benchmark", sections, ("check", f"prune: {name}")))
    return found


def _decisions(words: dict[str, Any], text: dict[str, Any], blocks: int) -> list[Case]:
    """Stages that find out how much goes, or which of several sets."""
    timed = {"benchmark": {**UNTIMED, "latency": {"output_tokens": [8], "warmup": 0, "runs": 3}}}
    few = {**text, "samples": 4}
    by_magnitude = {"criterion": "magnitude"}
    speed = {"pruning": {"kind": "depth", "target": {"speedup": 1.2}}, "scoring": by_magnitude, **timed}
    joint = {
        "pruning": {"kind": "joint", "target": {"speedup": 1.2}, "evaluations": 4, "calibration": few, "healing": None},
        **timed,
    }
    within = {"max_kl": 0.5, "calibration": {**text, "samples": 10}}
    bounded = {"pruning": {"kind": "depth", "constraints": within, "maximise": "speedup"}, "scoring": by_magnitude}
    after = {**by_magnitude, "after_healing": True, "candidates": 3, "healing_samples": 10}
    by_text = {**after, "criterion": "perplexity", "calibration": few}
    last = {**by_text, "finalists": 2, "finalist_steps": 2}
    scored = ("check", "score by magnitude")
    healed = {"recovery": {"kind": "healing", "text": words, "own_text": 0, "samples": 16, "tokens": 128}}
    chosen = {"pruning": {"kind": "depth", "blocks": 2}, **healed}
    return [
        Case("plan for a speedup", "plan", speed),
        Case("costs for a speedup", "costs", joint),
        Case("search within constraints", "search", bounded, scored),
        Case("search within constraints, healed", "search", {**bounded, **healed}, scored),
        Case("choose after healing", "choose", {**chosen, "scoring": by_text}, ("check", "score by perplexity")),
        Case("choose among finalists", "choose", {**chosen, "scoring": last}, ("check", "score by perplexity")),
    ]


def _drafts(
    words: dict[str, Any],
    text: dict[str, Any],
    depth: dict[str, Any],
    cut: tuple[str, ...],
    target: dict[str, Any],
) -> list[Case]:
    use = {"use": "draft", "target_model": target}
    asked = {"prompts": 2, "max_new_tokens": 8, "runs": 1}
    benchmark = {"benchmark": {**UNTIMED, "draft": asked}}
    best = {"pruning": {"kind": "depth", "maximise": "draft_speedup"}, "scoring": {"criterion": "magnitude"}}
    shape = {"text": words, "batch_size": 4, "micro_batch_size": 4, "tokens": 128, "max_steps": 2, "warmup_steps": 0}
    recovery = {"recovery": {"kind": "distill", "train": "lora", "heal": False, **shape}}
    return [
        Case("check of a draft", "check", {**use, **depth, **benchmark}, ()),
        Case("draft", "draft", {**use, **best, **benchmark}, ("check of a draft", "score by magnitude")),
        Case("recover a draft", "recover", {**use, **depth, **benchmark, **recovery}, ("check of a draft", cut[1])),
        Case("benchmark a draft", "benchmark", {**use, **depth, **benchmark}, ("check of a draft", cut[1])),
    ]


def of_a_mixture(words: dict[str, Any]) -> list[Case]:
    """Of a mixture of experts, by each criterion."""
    text = {"text": words, "samples": 4, "tokens": 128}
    depth = {"pruning": {"kind": "depth", "drop": [2]}}
    experts = {
        criterion: {"kind": "experts", "ratio": 0.25, "criterion": criterion, "calibration": text}
        for criterion in ("reap", "frequency", "reconstruction")
    }
    found = [Case("check", "check", depth, ())]
    found += [Case(f"prune experts by {name}", "prune", {"pruning": section}) for name, section in experts.items()]
    longer = {**experts["reap"], "calibration": {**text, "samples": 64}}
    scoring = {"criterion": "perplexity", "calibration": text}
    return [
        *found,
        Case("prune experts by reap, 40 samples", "prune", {"pruning": longer}),
        Case("prune blocks", "prune", depth),
        Case("score by perplexity", "score", {"pruning": {"kind": "depth", "blocks": 1}, "scoring": scoring}),
    ]
