"""Engines that are Python packages, in a process of their own: stand-ins that speak as the packages do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.fixtures.engines import VLLM, put_package
from workers.engine.serving import python_engine
from workers.engine.serving.python_engine import PythonEngine
from workers.engine.serving.runner import Asked, EngineFailed, Load

ASKED = Asked([[5, 6, 7]], 5)

XLLAMACPP = """
from types import SimpleNamespace

def CommonParams():
    return SimpleNamespace(model=SimpleNamespace(), cpuparams=SimpleNamespace(), cpuparams_batch=SimpleNamespace())

class Server:
    def __init__(self, parameters):
        assert (parameters.n_ctx, parameters.n_parallel, parameters.n_gpu_layers) == (8, 1, 0)
        assert parameters.cpuparams.n_threads == parameters.cpuparams_batch.n_threads == 3
        assert parameters.model.path.endswith("model.gguf")

    def handle_completions(self, body):
        assert body["ignore_eos"] and not body["cache_prompt"] and body["temperature"] == 0
        made = {made}
        times = {"prompt_n": len(body["prompt"]), "prompt_ms": 30.0, "predicted_n": made, "predicted_ms": 250.0}
        return {"choices": [], "timings": times}
"""

LLAMA_CPP = """
import time

class Llama:
    def __init__(self, *, model_path, n_ctx, n_threads, n_threads_batch, n_gpu_layers, verbose):
        assert (n_ctx, n_threads, n_threads_batch, n_gpu_layers, verbose) == (8, 3, 3, 0, False)
        self.fresh = False

    def reset(self):
        self.fresh = True

    def generate(self, tokens, *, temp):
        assert self.fresh and tokens == [5, 6, 7] and temp == 0
        self.fresh = False
        while True:
            time.sleep(0.01)
            yield 1
"""


@pytest.fixture
def load(tmp_path: Path) -> Load:
    file = tmp_path / "model.gguf"
    file.write_bytes(bytes(1000))
    return Load(file, threads=3, gpu=False, dtype="float32", tokens=8, sequences=2, memory_share=0.4)


def test_xllamacpp_tells_its_own_times(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = XLLAMACPP.replace("{made}", 'body["max_tokens"]')
    put_package(tmp_path / "packages", "xllamacpp", text, monkeypatch, version="9.8")
    engine = PythonEngine(load, module="with_xllamacpp")
    assert engine.build == "xllamacpp 9.8"
    took = engine.time(ASKED)
    assert [took.prompt, took.total] == pytest.approx([0.03, 0.28])
    engine.close()


def test_fewer_tokens_than_asked_are_no_time(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = XLLAMACPP.replace("{made}", "2")
    put_package(tmp_path / "packages", "xllamacpp", text, monkeypatch, version="9.8")
    engine = PythonEngine(load, module="with_xllamacpp")
    with pytest.raises(EngineFailed, match=r"failed: RuntimeError: 3 \+ 2 tokens in place of 3 \+ 5"):
        engine.time(ASKED)
    engine.close()


def test_llama_cpp_python_is_timed_token_by_token(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_package(tmp_path / "packages", "llama_cpp", LLAMA_CPP, monkeypatch)
    put_package(tmp_path / "packages", "llama_cpp_python", "", monkeypatch, version="1.2.3")
    engine = PythonEngine(load, module="with_llama_cpp")
    assert engine.build == "llama-cpp-python 1.2.3"
    for _ in range(2):
        took = engine.time(ASKED)
        assert 0.01 <= took.prompt < took.total
        assert took.total >= 0.05
    engine.close()


def test_vllm_takes_a_batch(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_package(tmp_path / "packages", "vllm", VLLM.format(more="pass"), monkeypatch)
    engine = PythonEngine(load, module="with_vllm")
    assert engine.build == "vLLM 0.99.0"
    took = engine.time(Asked([[1, 2, 3], [4, 5, 6]], 5))
    assert took.prompt >= 0.0005
    assert took.total >= 0.0025
    with pytest.raises(EngineFailed, match="failed: AssertionError"):  # more sequences than it was made for
        engine.time(Asked([[1], [2], [3]], 5))
    assert engine.time(ASKED).total >= 0.0025  # it goes on
    engine.close()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("sys.stderr.write('CUDA error\\n'); sys.stderr.flush(); os._exit(7)", "ended with exit status 7: CUDA error"),
        ("os.abort()", "was ended by signal 6"),
        ("raise ValueError('no such architecture\\nmore')", "failed: ValueError: no such architecture"),
    ],
)
def test_what_becomes_of_it_is_told(
    more: str, said: str, load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_package(tmp_path / "packages", "vllm", VLLM.format(more=more), monkeypatch)
    with pytest.raises(EngineFailed) as caught:
        PythonEngine(load, module="with_vllm")
    assert str(caught.value).startswith(said)


def test_one_that_hangs_is_ended(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_engine, "STARTING", 3.0)
    put_package(tmp_path / "packages", "vllm", VLLM.format(more="time.sleep(600)"), monkeypatch)
    with pytest.raises(EngineFailed, match="took more than 3 s"):
        PythonEngine(replace(load, gpu=True), module="with_vllm")
    assert not [child for child in psutil.Process().children() if "with_vllm" in _command(child)]


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:  # one that ended meanwhile
        return []
