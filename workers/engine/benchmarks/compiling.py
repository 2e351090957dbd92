"""torch.compile and a static cache, as options of the latency benchmark.

Both change how every variant is run, never what it computes: the steps after the first token go through the compiled
model, the prompt through the plain one, as transformers' own generation does it. A static cache has its full size from
the start and is filled in place, so that shapes stay the same, which compiling needs: with a cache that grows, each
token would have a shape of its own.

torch goes back to plain Python without a word where it cannot compile, and where it has compiled one function too
often. So a model is compiled as a whole or not at all, every cell starts with an empty compiler, and calls of the
compiled graph are counted: what is reported as compiled was.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache, PreTrainedModel, StaticCache

from secateur.contract.errors import InvalidInput
from workers.engine.blame import is_of_the_machine, words_of

# a model is compiled once for its first step and once more where the cache's own counters are no constants
_GRAPHS_PER_MODEL = 8


class NotCompiled(Exception):
    """A model could not be compiled, or was not run so throughout; the message says why."""


@dataclass(frozen=True)
class Mode:
    """How the models of a benchmark are run, all alike."""

    compiled: bool = False  # with a static cache only
    static_cache: bool = False


PLAIN = Mode()


class Runner:
    """One model in a mode, for generations of one shape."""

    def __init__(self, model: PreTrainedModel, mode: Mode, *, capacity: int) -> None:
        """`capacity`: tokens that a sequence has at the end, prompt included."""
        self.model = model
        self.step: Any = model  # what the tokens after the first go through
        self.graphs = 0  # that were compiled
        self.calls = 0  # of compiled graphs
        if mode.compiled:
            compile_in_process()
            self.step = torch.compile(model, fullgraph=True, backend=self._counting)
        self._cache = StaticCache(config=model.config, max_cache_len=capacity) if mode.static_cache else None

    @torch.inference_mode()
    def new_cache(self) -> Cache | None:
        """What the next generation starts with; None lets the model make a cache that grows."""
        if self._cache is not None and self._cache.get_seq_length():
            self._cache.reset()  # type: ignore[no-untyped-call]  # no annotations upstream
        return self._cache

    def _counting(self, graph: Any, inputs: list[Any]) -> Callable[..., Any]:
        """The compiler that torch calls, with the calls of what it makes counted."""
        compiled = compile_graph(graph, inputs)
        self.graphs += 1

        def run(*arguments: Any) -> Any:
            self.calls += 1
            return compiled(*arguments)

        return run


def compile_graph(graph: Any, inputs: list[Any]) -> Callable[..., Any]:
    """torch's own compiler, the one that `torch.compile` uses unless another is named."""
    from torch._dynamo.backends.registry import lookup_backend  # takes a second, and most jobs compile nothing

    return lookup_backend("inductor")(graph, inputs)


def settle(runner: Runner, generate: Callable[[], object]) -> None:
    """Generate until nothing more is compiled, so that no compiling takes place in what is timed.

    Raises:
        NotCompiled: the model cannot be compiled as a whole, or is compiled anew each time.
    """
    for _ in range(4):
        before = runner.graphs
        try:
            generate()
        except Exception as error:
            if is_of_the_machine(error):
                raise
            raise NotCompiled(f"torch.compile cannot compile it as a whole: {words_of(error)}") from error
        if runner.graphs == before:
            return
    raise NotCompiled("torch.compile compiles it anew in each generation")


@contextmanager
def fresh_compiler(models: int) -> Iterator[None]:
    """An empty compiler with room for so many models, which share their code; it holds them until it is emptied."""
    import torch._dynamo.config as dynamo

    most = models * _GRAPHS_PER_MODEL
    torch.compiler.reset()
    with dynamo.patch(
        recompile_limit=max(most, dynamo.recompile_limit),
        accumulated_recompile_limit=max(most, dynamo.accumulated_recompile_limit),
    ):
        try:
            yield
        finally:
            torch.compiler.reset()


def compile_in_process() -> None:
    """Keep torch's compiler from starting worker processes, which would outlive a stage that is killed."""
    import torch._inductor.config as inductor  # takes a second, and most jobs compile nothing

    inductor.compile_threads = 1


def refuse_uncompilable(device: str) -> None:
    """Say at once that this worker cannot compile.

    Args:
        device: "cpu", "cuda", "cuda:N" or "auto".

    Raises:
        InvalidInput: there is no C++ compiler on a CPU, or no Triton or C compiler beside a GPU.
    """
    if device.startswith("cuda") or (device == "auto" and torch.cuda.is_available()):
        missing = None
        if importlib.util.find_spec("triton") is None:
            missing = "Triton"
        elif not any(map(shutil.which, filter(None, (os.environ.get("CC"), "clang", "gcc")))):  # as Triton looks
            missing = "a C compiler, which Triton needs for its launchers"
        if missing is not None:
            raise InvalidInput.field(
                "compile",
                f"torch.compile needs Triton and a C compiler on a GPU, and this worker lacks {missing}.",
                value=True,
                expected="false, or a worker with both",
            )
        return
    compiler = os.environ.get("CXX") or "g++"  # as torch's compiler looks for it
    if shutil.which(compiler) is None:
        raise InvalidInput.field(
            "compile",
            f'torch.compile needs a C++ compiler on a CPU, and this worker has no "{compiler}".',
            value=True,
            expected="false, or a worker with a C++ compiler (CXX names another one)",
        )
