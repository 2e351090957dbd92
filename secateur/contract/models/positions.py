"""How many tokens a model holds, and every place of a spec that asks for more.

A model with learned positions has no row for the token after its last one, and others were never trained on it. So what
asks for more is refused at its field. Lengths that a job has by default are no wish of anybody's: those of the latency
and of the samples are cut to what the model holds, and a note says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from secateur.contract.errors import FieldError
from secateur.contract.options.benchmark import LatencyBenchmark, PerplexityBenchmark, SamplesBenchmark
from secateur.contract.options.pruning import DepthPruning, SubBlockPruning
from secateur.contract.options.recovery import NoRecovery
from secateur.contract.options.texts import Calibration
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import SCORE
from secateur.contract.texts import texts_of

_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len")  # the last of MPT's and DBRX's configs
_LATENCY, _SAMPLES = LatencyBenchmark(), SamplesBenchmark()


def positions_of(config: Mapping[str, Any]) -> int | None:
    """The tokens of a sequence by a model's config; None where it names no bound."""
    found = [count for key in _KEYS if type(count := config.get(key)) is int and count > 0]
    return found[0] if found else None


def fitting_latency(options: LatencyBenchmark, positions: int | None) -> LatencyBenchmark:
    """The options with fewer output tokens where the default's are more than the model holds."""
    room = None if positions is None else positions - options.input_tokens
    if room is None or options.output_tokens != _LATENCY.output_tokens or not 2 <= room < options.output_tokens[0]:
        return options
    return options.model_copy(update={"output_tokens": (room,)})


def fitting_samples(options: SamplesBenchmark, positions: int | None) -> SamplesBenchmark:
    """The options with fewer new tokens where the default's are more than the model holds, half of it at most."""
    new = options.max_new_tokens
    if positions is None or new != _SAMPLES.max_new_tokens or positions >= 2 * new:
        return options
    return options.model_copy(update={"max_new_tokens": max(1, positions // 2)})


def too_long(spec: CompressionSpec, positions: int | None) -> list[FieldError]:
    """Every field that asks for sequences longer than the model holds."""
    return [] if positions is None else list(_too_long(spec, positions))


def _too_long(spec: CompressionSpec, positions: int) -> Iterator[FieldError]:
    unused: tuple[str, ...] = () if SCORE.asked(spec) else ("/scoring",)
    pruning = spec.pruning
    if isinstance(pruning, DepthPruning | SubBlockPruning) and pruning.drop is not None:  # then nothing is judged
        unused += ("/pruning",)
    for pointer, calibration in texts_of(spec, Calibration):
        if not pointer.startswith(unused):
            yield from _tokens(f"{pointer}/tokens", calibration.tokens, positions)
    if not isinstance(spec.recovery, NoRecovery):
        yield from _tokens("/recovery/tokens", spec.recovery.tokens, positions)
    benchmark = spec.benchmark
    if benchmark.perplexity is not None or benchmark.fidelity.enabled:
        windows = benchmark.perplexity or PerplexityBenchmark()
        yield from _tokens("/benchmark/perplexity/tokens", windows.tokens, positions)
    if benchmark.samples is not None:
        new = fitting_samples(benchmark.samples, positions).max_new_tokens
        yield from _tokens("/benchmark/samples/max_new_tokens", new, positions - 1, "beside a prompt")
    if benchmark.latency is None:
        return
    latency = fitting_latency(benchmark.latency, positions)
    if latency.input_tokens + 2 > positions:
        yield from _tokens("/benchmark/latency/input_tokens", latency.input_tokens, positions - 2, "beside the output")
        return
    for index, output in enumerate(latency.output_tokens):
        where = f"beside {latency.input_tokens:,} of the prompt"
        pointer = f"/benchmark/latency/output_tokens/{index}"
        yield from _tokens(pointer, output, positions - latency.input_tokens, where)


def _tokens(pointer: str, tokens: int, most: int, where: str = "") -> Iterator[FieldError]:
    if tokens > most:
        room = f"{tokens:,} tokens {where}".strip()
        yield FieldError(pointer, f"{room} are more than the model holds", tokens, f"at most {max(most, 0):,} tokens")
