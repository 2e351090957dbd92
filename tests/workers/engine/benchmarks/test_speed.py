"""Latency and memory: the order of things and the arithmetic; no test looks at how fast something was."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch._dynamo.config as dynamo
from transformers import PreTrainedModel

from secateur.contract.errors import InvalidInput
from workers.engine.benchmarks import compiling, largest_batch, latency, memory
from workers.engine.benchmarks.clock import ProcessorClock, Timing
from workers.engine.benchmarks.compiling import Mode, NotCompiled, Runner, refuse_uncompilable
from workers.engine.benchmarks.decoding import decode, random_prompt
from workers.engine.benchmarks.in_turn import AGAIN
from workers.engine.benchmarks.latency import Cell, cells_of, time_cell
from workers.engine.benchmarks.memory import cache_bytes, measure_memory, weight_bytes
from workers.engine.model.generation import kv_bytes_per_token

CELL = Cell(batch_size=2, input_tokens=5, output_tokens=6, warmup=1, runs=3)


def test_every_family_decodes_to_the_full_length(make_model: Callable[..., PreTrainedModel], family: str) -> None:
    model = make_model(family)
    prompt = random_prompt(model, sequences=2, tokens=5, seed=0)
    cache = decode(model, prompt, 6, ProcessorClock())
    assert cache.get_seq_length() == 5 + 6 - 1


def test_greedy_tokens_are_those_of_generate_and_no_end_stops_them(make_model: Callable[..., PreTrainedModel]) -> None:
    model: Any = make_model()
    prompt = random_prompt(model, sequences=1, tokens=5, seed=0)
    fed: list[torch.Tensor] = []
    hook = model.register_forward_pre_hook(lambda _m, _a, kwargs: fed.append(kwargs["input_ids"]), with_kwargs=True)
    decode(model, prompt, 8, ProcessorClock())
    hook.remove()
    expected = model.generate(input_ids=prompt, do_sample=False, min_new_tokens=8, max_new_tokens=8, eos_token_id=None)
    assert torch.equal(torch.cat(fed, dim=1), expected[:, :-1])


def test_models_take_turns_and_every_other_round_goes_backwards(
    make_model: Callable[..., PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {name: make_model(num_hidden_layers=2, seed=seed) for seed, name in enumerate(["original", "pruned"])}
    names = {id(model): name for name, model in models.items()}
    seen: list[tuple[str, int]] = []

    def one(runner: Runner, cell: Cell, *, seed: int) -> Timing:
        seen.append((names[id(runner.model)], seed))
        return Timing(0.5, 1.0)

    monkeypatch.setattr(latency, "_time_one", one)
    timings = time_cell(models, CELL, seed=0)
    assert [name for name, _ in seen] == [
        *["original", "pruned"],  # warm-up
        *["original", "pruned", "original"],
        *["original", "pruned", "original"],
        *["original", "pruned", "original"],
    ]
    seeds = [seed for _, seed in seen]
    assert len(set(seeds)) == 4
    assert seeds[2] == seeds[3] == seeds[4]  # one prompt in one round
    assert {name: len(times) for name, times in timings.items()} == {"original": 3, "pruned": 3, AGAIN: 3}


def test_real_timings_give_cells_for_every_model(make_model: Callable[..., PreTrainedModel]) -> None:
    models = {"original": make_model(), "pruned": make_model(num_hidden_layers=2)}
    told: list[int] = []
    timings = time_cell(models, CELL, seed=0, progress=lambda done, total, unit: told.append(done))
    cells = cells_of(timings, CELL)
    assert told == [1, 2, 3, 4]
    assert set(cells) == {"original", "pruned"}
    assert cells["original"].speedup is None
    assert cells["pruned"].speedup is not None
    for cell in cells.values():
        assert cell.runs == 3
        assert 0 < cell.time_to_first_token.median < cell.seconds.median
        assert cell.tokens_per_second.median == pytest.approx(12 / cell.seconds.median)
        assert cell.noise is not None


def test_speedup_is_of_the_pairs_and_a_steady_drift_cancels() -> None:
    drift = [1.0 + 0.1 * turn for turn in range(9)]  # each timing is slower than the one before
    timings = {
        "original": [Timing(0.2, 2.0 * drift[3 * turn]) for turn in range(3)],
        "pruned": [Timing(0.1, 1.0 * drift[3 * turn + 1]) for turn in range(3)],
        AGAIN: [Timing(0.2, 2.0 * drift[3 * turn + 2]) for turn in range(3)],
    }
    found = cells_of(timings, Cell(1, 5, 11, 0, 3))["pruned"]
    assert found.speedup is not None
    assert found.speedup.median == pytest.approx(2.0)
    assert found.time_per_output_token.median == pytest.approx((drift[4] - 0.1) / 10)
    assert found.noise is not None
    assert found.noise > 0.1  # the original against itself tells of the drift
    assert found.speedup.low < 1.9


@pytest.mark.parametrize(("output", "steps"), [(41, 8), (41, 40), (9, 20)])
def test_a_sample_of_a_generation_stands_for_the_whole(
    make_model: Callable[..., PreTrainedModel], monkeypatch: pytest.MonkeyPatch, output: int, steps: int
) -> None:
    """On times that are counted out: a token takes the longer the more of them stand before it."""
    generated: list[int] = []
    moments = [0.0, 0.0, 0.0]

    def played(model: PreTrainedModel, prompt: torch.Tensor, tokens: int, clock: Any, **_: Any) -> None:
        generated.append(tokens - 1)
        moments[1] = 0.5 + 0.01 * prompt.shape[1]
        moments[2] = moments[1] + sum(0.1 + 0.002 * (prompt.shape[1] + step) for step in range(tokens - 1))

    monkeypatch.setattr(latency, "decode", played)
    monkeypatch.setattr(ProcessorClock, "read", lambda clock: Timing(moments[1], moments[2]))
    runner = Runner(make_model(), Mode(), capacity=5 + output)
    whole = latency._time_one(runner, Cell(1, 5, output, 0, 3), seed=0)
    generated.clear()
    sampled = latency._time_one(runner, Cell(1, 5, output, 0, 3, steps=steps), seed=0)
    assert (sampled.first, sampled.total) == pytest.approx((whole.first, whole.total))
    assert sum(generated) == min(steps, output - 1)


@pytest.mark.parametrize("mode", [Mode(), Mode(static_cache=True)], ids=["growing", "static"])
def test_real_generations_are_sampled_and_end_when_that_will_do(
    make_model: Callable[..., PreTrainedModel], mode: Mode
) -> None:
    models = {"original": make_model(num_hidden_layers=2), "pruned": make_model(num_hidden_layers=1)}
    asked: list[int] = []

    def enough(found: Mapping[str, list[Timing]]) -> bool:
        asked.append(len(found["pruned"]))
        return len(found["pruned"]) == 2

    timings = time_cell(models, Cell(2, 5, 30, 1, 9, mode, steps=3), seed=0, enough=enough)
    assert asked == [1, 2], "not after the warm-up"
    assert {name: len(times) for name, times in timings.items()} == {"original": 2, "pruned": 2, AGAIN: 2}
    assert all(0 < timing.first < timing.total for times in timings.values() for timing in times)


def test_memory_counts_a_tied_head_once_and_the_cache_as_the_config_says(
    make_model: Callable[..., PreTrainedModel],
) -> None:
    model = make_model()
    found = measure_memory(model, batch_size=2, input_tokens=5, output_tokens=6, seed=0)
    shapes = {name: parameter for name, parameter in model.named_parameters() if name != "lm_head.weight"}
    buffers = {buffer.data_ptr(): buffer.nbytes for buffer in model.buffers()}
    assert found.weights == sum(p.nbytes for p in shapes.values()) + sum(buffers.values())
    assert found.kv_bytes_per_token == kv_bytes_per_token(model) == 2 * 4 * 2 * 8 * 4
    assert found.peak > weight_bytes(model)
    assert found.measured_as == "resident set size"


def test_the_peak_is_seen_while_it_lasts_and_forgotten_after() -> None:
    with memory._watch_resident() as before:
        pass
    with memory._watch_resident() as during:
        torch.ones(64 * 2**20, dtype=torch.uint8)  # gone at once
    with memory._watch_resident() as after:
        pass
    assert during.peak > before.peak + 48 * 2**20
    assert after.peak < during.peak - 32 * 2**20


def test_where_the_mark_cannot_be_reset_a_thread_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_RESET_PEAK", "9")  # the kernel refuses it
    with memory._watch_resident() as watch:
        held = torch.ones(64 * 2**20, dtype=torch.uint8)
    assert watch.name == "resident set size, sampled"
    assert watch.peak > held.nbytes


def test_cache_bytes_are_those_of_the_tensors(make_model: Callable[..., PreTrainedModel]) -> None:
    model = make_model("gemma2")  # half of its layers keep four tokens only
    cache = decode(model, random_prompt(model, sequences=1, tokens=4, seed=0), 2, ProcessorClock())
    assert cache_bytes(cache) == (5 + 4) * kv_bytes_per_token(model) // 2


def keys_after(model: Any, mode: Mode) -> torch.Tensor:
    """What a generation in this mode leaves in the last block's cache, which every token fed has a part in.

    It is the second one on the same runner, run as the benchmark runs it.
    """
    runner = Runner(model, mode, capacity=5 + 8)
    prompt = random_prompt(model, sequences=2, tokens=5, seed=0)
    for _ in range(2):
        cache: Any = decode(model, prompt, 8, ProcessorClock(), step=runner.step, cache=runner.new_cache())
    keys: torch.Tensor = cache.layers[-1].keys
    return keys[:, :, :12]


@pytest.mark.parametrize("model_type", ["llama", "gemma2"])  # the latter slides a window over half of its blocks
def test_a_static_cache_changes_no_token(make_model: Callable[..., PreTrainedModel], model_type: str) -> None:
    model = make_model(model_type)
    torch.testing.assert_close(keys_after(model, Mode(static_cache=True)), keys_after(model, Mode()))


COMPILED = Mode(compiled=True, static_cache=True)
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")


@pytest.mark.thorough
@needs_compiler
def test_compiling_changes_no_token(make_model: Callable[..., PreTrainedModel]) -> None:
    model = make_model(num_hidden_layers=2)
    torch.testing.assert_close(keys_after(model, COMPILED), keys_after(model, Mode()))


@pytest.mark.thorough
@needs_compiler
def test_what_is_timed_as_compiled_is(make_model: Callable[..., PreTrainedModel]) -> None:
    models = {name: make_model(num_hidden_layers=2, seed=seed) for seed, name in enumerate(("original", "pruned"))}
    cell = Cell(2, 5, 8, 0, 3, COMPILED)  # of the shapes above, which are compiled once
    found = cells_of(time_cell(models, cell, seed=0), cell)
    assert all(figures.compiled and figures.static_cache for figures in found.values())


@pytest.mark.thorough
def test_every_step_runs_compiled_in_every_cell(
    make_model: Callable[..., PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More models and cells than torch would compile one function for, of which one slides a window."""
    graphs: list[Any] = []

    def traced(graph: Any, inputs: list[Any]) -> Any:  # and not turned into C++, which takes minutes
        graphs.append(graph)
        return graph

    monkeypatch.setattr(compiling, "compile_graph", traced)
    models = {"original": make_model("mistral", num_hidden_layers=1)}
    models |= {f"pruned-{seed}": make_model(num_hidden_layers=1, seed=seed) for seed in (1, 2)}
    for output in (4, 6):
        graphs.clear()
        cell = Cell(1, 5, output, 0, 3, COMPILED)
        with dynamo.patch(recompile_limit=2):
            found = cells_of(time_cell(models, cell, seed=0), cell)
        assert all(figures.compiled for figures in found.values())
        assert len(graphs) >= len(models)  # compiled anew in each cell


def test_what_cannot_be_compiled_as_a_whole_is_not_timed_as_compiled(
    make_model: Callable[..., PreTrainedModel],
) -> None:
    models = {"original": make_model("opt", num_hidden_layers=2), "pruned": make_model("opt", num_hidden_layers=1)}
    with pytest.raises(NotCompiled, match=r"the original model: torch\.compile cannot compile it as a whole"):
        time_cell(models, Cell(1, 5, 4, 0, 3, COMPILED), seed=0)


@pytest.mark.parametrize("fault", ["a step beside the graph", "a graph while timed"])
def test_a_step_that_did_not_run_compiled_is_found_out(
    make_model: Callable[..., PreTrainedModel], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def played(runner: Runner, cell: Cell, *, seed: int) -> Timing:
        runner.calls += cell.output_tokens - 1
        if seed != 0:  # not while it is compiled
            runner.calls -= fault == "a step beside the graph"
            runner.graphs += fault == "a graph while timed"
        return Timing(0.1, 0.2)

    monkeypatch.setattr(latency, "_time_one", played)
    with pytest.raises(NotCompiled, match="not every step"):
        time_cell({"original": make_model()}, Cell(1, 5, 4, 0, 3, COMPILED), seed=0)


def test_every_variant_is_run_in_the_mode_that_the_cell_says(make_model: Callable[..., PreTrainedModel]) -> None:
    cell = Cell(1, 5, 6, 0, 3, Mode(static_cache=True))
    models = {"original": make_model(num_hidden_layers=2), "pruned": make_model(num_hidden_layers=2, seed=1)}
    found = cells_of(time_cell(models, cell, seed=0), cell)
    assert all(figures.static_cache and not figures.compiled for figures in found.values())


def test_a_worker_without_a_compiler_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InvalidInput, match="no-such-compiler") as caught:
        refuse_uncompilable("cpu")
    assert caught.value.errors[0].pointer == "compile"
    monkeypatch.setenv("CXX", "sh")  # anything that is there
    refuse_uncompilable("cpu")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    refuse_uncompilable("cuda:0")
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(InvalidInput, match="a C compiler"):
        refuse_uncompilable("cuda:0")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match="Triton"):
        refuse_uncompilable("cuda:0")


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 7, 8, 100, 1023, 1024])
def test_the_largest_batch_is_found_by_doubling_and_halving(limit: int) -> None:
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= limit

    assert largest_batch.largest_that_fits(fits) == limit
    assert len(tried) <= 2 * max(1, limit).bit_length() + 2
    assert largest_batch.largest_that_fits(lambda size: True, most=100) == 100
    assert largest_batch.largest_that_fits(lambda size: size <= 70, most=100) == 70


def test_memory_that_runs_out_ends_a_try_and_nothing_else(
    make_model: Callable[..., PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    def small_card(model: PreTrainedModel, prompt: torch.Tensor, *rest: Any) -> Any:
        if len(prompt) > 5:
            raise torch.OutOfMemoryError
        return decode(model, prompt, *rest)

    monkeypatch.setattr(largest_batch, "decode", small_card)
    model = make_model(num_hidden_layers=2)
    assert largest_batch.largest_batch(model, input_tokens=4, output_tokens=3, seed=0) == 5
