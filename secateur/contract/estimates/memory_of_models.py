"""The memory of stages that have several models in memory at a time: what times depths, tries drafts, and measures."""

from __future__ import annotations

from secateur.contract.depth import most_that_may_go, plus_protected
from secateur.contract.estimates.memory_of_files import unpacked
from secateur.contract.estimates.memory_of_texts import JUDGED_COPIES, TOKENS_AT_ONCE
from secateur.contract.estimates.setting import Samples, Setting
from secateur.contract.estimates.work import measures_a_file
from secateur.contract.options.benchmark import LatencyBenchmark
from secateur.contract.options.joint import JointPruning
from secateur.contract.options.quantise import GgufQuantisation

PROMPT_TOKENS = 128  # of the prompts on which drafts are measured, at most


def plan(setting: Setting) -> int:
    """The original and what is left of it at three depths; for a target of memory each by itself."""
    return _timed(setting, _depths(setting))


def _timed(setting: Setting, smaller: list[int]) -> int:
    """Models that are timed in turn, in memory of their own; or measured alone, where their files are mapped."""
    latency, target = setting.spec.benchmark.latency, setting.spec.target
    cache = 0 if latency is None else _cache(setting, latency)
    if target is not None and target.figure == "memory":
        return setting.loaded(setting.parameters) + cache
    return (setting.parameters + sum(smaller)) * setting.width + cache


def _depths(setting: Setting) -> list[int]:
    """Parameters of what is left where a third, two thirds and all of the blocks go that may."""
    most = most_that_may_go(setting.blocks, plus=setting.spec.scoring.plus)
    of_block = setting.of_blocks // setting.blocks
    return [setting.parameters - max(1, round(most * part / 3)) * of_block for part in (1, 2, 3)]


def costs(setting: Setting) -> int:
    """The original and what is left without attentions, without MLPs, without half of both, and without nearly all."""
    pruning, blocks = setting.spec.pruning, setting.model.count.blocks
    stay = plus_protected(len(blocks)) if getattr(pruning, "plus", False) else ()
    free = [number for number in range(len(blocks)) if number not in stay]
    choices = pruning.choices if isinstance(pruning, JointPruning) else ()
    attention = sum(blocks[n].attention for n in free) if {"attention", "block"} & set(choices) else 0
    mlp = sum(blocks[n].mlp for n in free) if {"mlp", "block"} & set(choices) else 0
    whole = setting.parameters
    parts = ((2 / 3, 0.0), (0.0, 2 / 3), (0.5, 0.5), (1.0, 1.0))
    return _timed(setting, [round(whole - one * attention - other * mlp) for one, other in parts])


def try_drafts(setting: Setting) -> int:
    """The target beside the model whole and at three depths."""
    if setting.target is None:
        return 0
    return (setting.target.count.total + setting.parameters + sum(_depths(setting))) * setting.width


def benchmark(setting: Setting) -> int:
    options = setting.spec.benchmark
    recovered = setting.spec.recovery.kind != "none"
    ways = setting.spec.quantise
    files = sum(isinstance(way, GgufQuantisation) for way in ways) + measures_a_file(setting.spec)
    integers = sum(not isinstance(way, GgufQuantisation) for way in ways)
    plain = setting.parameters + setting.left * (2 if recovered else 1)
    between = len(setting.spec.sizes.blocks or ()) if setting.spec.sizes is not None else 0
    plain += between * setting.left
    as_files = setting.loaded(plain + files * setting.left)
    held = as_files + integers * unpacked(setting)
    placed = (plain + integers * setting.left) * setting.width + integers * unpacked(setting)
    weights = held if options.latency is None else placed + setting.loaded(files * setting.left)
    cache = 0 if options.latency is None else _cache(setting, options.latency)
    read = 0
    if options.perplexity is not None:
        windows = min(options.perplexity.windows, max(1, TOKENS_AT_ONCE // options.perplexity.tokens))
        tokens = windows * options.perplexity.tokens
        predicted = setting.logits(Samples(windows, options.perplexity.tokens), JUDGED_COPIES)
        read = 2 * setting.packed(setting.head) + setting.states(tokens, 2) + predicted
        read = max(read, setting.states(tokens, 2) + setting.made(tokens))
    imported = setting.tokenizer + 4 * setting.left if files else 0
    return max(weights + cache, held + setting.tokenizer + read, imported, _drafting(setting, plain))


def _cache(setting: Setting, latency: LatencyBenchmark) -> int:
    longest = latency.input_tokens + max(latency.output_tokens)
    tokens = max(latency.batch_sizes) * longest
    return tokens * setting.blocks * setting.model.cached * setting.width


def _drafting(setting: Setting, variants: int) -> int:
    """The target beside all its drafts, each in memory of its own, with the caches of a prompt and its continuation."""
    options, target = setting.spec.benchmark.draft, setting.target
    if options is None or target is None:
        return 0
    tokens = options.max_new_tokens + PROMPT_TOKENS
    cached = len(target.count.blocks) * target.cached + setting.blocks * setting.model.cached
    return (variants + target.count.total + tokens * cached) * setting.width
