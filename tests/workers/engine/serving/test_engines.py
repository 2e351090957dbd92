"""What a worker has: `llama-bench` on the path goes before packages, and no package is imported to find out."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.engines import no_engines, put_llama_bench, put_package
from workers.engine.serving.engines import ENGINES
from workers.engine.serving.llama_bench import LlamaBench


def module_of(name: Any) -> str:
    start = ENGINES[name].find()
    assert isinstance(start, partial)
    return str(start.keywords["module"])


def test_none(monkeypatch: pytest.MonkeyPatch) -> None:
    no_engines(monkeypatch)
    assert [engine.find() for engine in ENGINES.values()] == [None, None]


def test_packages_and_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    broken = "raise RuntimeError('it was imported')"
    for package, module in (("xllamacpp", "with_xllamacpp"), ("llama_cpp", "with_llama_cpp")):
        put_package(tmp_path / "packages", package, broken, monkeypatch)
        assert module_of("llama_cpp") == module
    put_package(tmp_path / "packages", "vllm", broken, monkeypatch)
    assert module_of("vllm") == "with_vllm"
    assert "vllm" not in sys.modules
    put_llama_bench(tmp_path / "bin", monkeypatch)
    found = ENGINES["llama_cpp"].find()
    assert isinstance(found, partial)
    assert found.func is LlamaBench
