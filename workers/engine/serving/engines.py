"""The engines that can time a model beside transformers, and by what on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

from secateur.contract.options.benchmark import EngineName
from workers.engine.serving.llama_bench import LlamaBench
from workers.engine.serving.python_engine import PythonEngine
from workers.engine.serving.runner import Load, Runner

Start = Callable[[Load], Runner]


@dataclass(frozen=True)
class Engine:
    """One engine."""

    title: str  # "llama.cpp"
    installed_by: str  # what a worker needs, in words
    find: Callable[[], Start | None]  # what starts it; None where it is not installed
    one_sequence: bool = False  # whether it is timed with one at a time alone


def _package(name: str, module: str) -> Start | None:
    return partial(PythonEngine, module=module) if find_spec(name) is not None else None


def _llama_cpp() -> Start | None:
    program = shutil.which("llama-bench")
    if program is not None:
        return partial(LlamaBench, program=program)
    return _package("llama_cpp", "with_llama_cpp") or _package("xllamacpp", "with_xllamacpp")


# By the names that a spec gives them.
ENGINES: Mapping[EngineName, Engine] = {
    "llama_cpp": Engine(
        "llama.cpp",
        "`llama-bench` on its path, or the package `llama-cpp-python` or `xllamacpp`",
        _llama_cpp,
        one_sequence=True,
    ),
    "vllm": Engine("vLLM", "the package `vllm`", lambda: _package("vllm", "with_vllm")),
}
