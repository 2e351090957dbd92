"""llama.cpp itself, through `xllamacpp`: a model with blocks removed is loaded and timed, and a broken one told of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.gguf_models import tiny_model, write_model
from workers.engine.benchmarks.latency import Cell
from workers.engine.pruning.gguf_depth import prune_gguf_depth
from workers.engine.serving.cells import time_under
from workers.engine.serving.python_engine import PythonEngine
from workers.engine.serving.runner import EngineFailed, Load

pytest.importorskip("xllamacpp")
pytestmark = pytest.mark.llama_cpp

CELL = Cell(batch_size=1, input_tokens=4, output_tokens=6, warmup=1, runs=3)


def start(load: Load) -> PythonEngine:
    return PythonEngine(load, module="with_xllamacpp")


def loaded(file: Path) -> Load:
    return Load(file, threads=1, gpu=False, dtype="float32", tokens=10, sequences=1, memory_share=1.0)


def test_two_files_in_turn(tmp_path: Path) -> None:
    file = write_model(tmp_path / "model.gguf", tiny_model("llama"))
    pruned = tmp_path / "pruned.gguf"
    prune_gguf_depth(file, pruned, drop=[1])
    found = time_under(
        start, {"original": loaded(file), "pruned": loaded(pruned)}, CELL, against="", vocabulary=259, seed=0
    )
    assert set(found) == {"original", "pruned"}
    for cell in found.values():
        assert cell.build.startswith("xllamacpp ")
        assert cell.tokens_per_second.median > 0
        assert cell.prompt_tokens_per_second.median > 0
    assert found["pruned"].speedup is not None


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(EngineFailed):
        start(loaded(tmp_path / "broken.gguf"))
