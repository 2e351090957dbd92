"""What the variants generate, by the benchmark stage: all of them alike, as chats where the model has a template."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secateur.contract.measurements import Benchmarks
from secateur.contract.protocol import ProgressEvent
from secateur.contract.spec import CompressionSpec
from tests.fixtures.whole_job import Job
from workers.engine.benchmarks.samples import sample_figures

TEMPLATE = "{% for m in messages %}{{ m.content }}!{% endfor %}"
REFUSES = "{{ raise_exception('no chats today') }}"
CHECKS = ["arithmetic", "copying"]

Measure = Callable[..., tuple[Benchmarks, Job]]


@pytest.fixture
def measure(tiny_checkpoint: Callable[..., Path]) -> Measure:
    """measure(template, work=…, **benchmark): what original, pruned and quantised model generate."""
    path = tiny_checkpoint(num_hidden_layers=4)

    def run(template: str | None = None, *, work: str = "work", **benchmark: Any) -> tuple[Benchmarks, Job]:
        if template is not None:
            (path / "chat_template.jinja").write_text(template)
        spec = {
            "model": {"source": "local", "path": "tiny"},
            "pruning": {"kind": "depth", "drop": [2]},
            "recovery": {"kind": "none"},
            "quantise": [{"kind": "int8"}],
            "benchmark": {
                "latency": None,
                "perplexity": None,
                "fidelity": {"enabled": False},
                "samples": {"prompts": ["The river", "A stone"], "max_new_tokens": 6, "temperature": 0},
                "generation": {"prompts": 3, "checks": CHECKS, "max_new_tokens": 5},
                "reuse_original": False,
                **benchmark,
            },
        }
        job = Job(path.parent, CompressionSpec.model_validate(spec), work)
        for name in ("prune", "quantise"):
            job.run(name)
        return job.run("benchmark"), job

    return run


def test_every_variant_answers_and_is_held_against_the_original(measure: Measure) -> None:
    found, job = measure()
    assert [variant.variant for variant in found.variants] == ["original", "pruned", "pruned-int8"]
    original, *others = found.variants
    for variant in found.variants:
        assert [(score.check, score.prompts, score.chat) for score in variant.generation] == [
            ("all", 6, False),
            ("arithmetic", 3, False),
            ("copying", 3, False),
        ]
        assert variant.sampled == sample_figures(variant.samples)
        assert variant.sampled is not None
        assert [sample.chat for sample in variant.samples] == [False, False]
    assert all(score.agreement is None and score.drop is None for score in original.generation)
    assert all(score.agreement is not None and score.drop is not None for o in others for score in o.generation)
    told = [event for event in job.events if isinstance(event, ProgressEvent) and event.unit == "prompts"]
    assert (told[-1].done, told[-1].total) == (6, 6)
    assert not found.notes[1:], "nothing to mind but how the integers ran"
    again, _ = measure(work="again")
    assert [v.generation for v in again.variants] == [v.generation for v in found.variants]
    assert [v.samples for v in again.variants] == [v.samples for v in found.variants]


@pytest.mark.thorough
def test_a_chat_model_is_given_chats(measure: Measure) -> None:
    plain, _ = measure(work="plain")
    found, _ = measure(TEMPLATE)
    for variant, before in zip(found.variants, plain.variants, strict=True):
        assert all(score.chat for score in variant.generation)
        assert all(sample.chat for sample in variant.samples)
        assert [sample.prompt for sample in variant.samples] == ["The river", "A stone"]
        assert [sample.text for sample in variant.samples] != [sample.text for sample in before.samples]
    assert "chat" not in " ".join(found.notes)
    off = {"samples": {"prompts": ["The river", "A stone"], "max_new_tokens": 6, "temperature": 0, "chat": False}}
    told, _ = measure(TEMPLATE, work="off", **off)
    assert [v.samples for v in told.variants] == [v.samples for v in plain.variants]


def test_a_template_that_cannot_be_used_is_told_and_fails_nothing(measure: Measure) -> None:
    plain, _ = measure(work="plain")
    found, _ = measure(REFUSES)
    for what in ("samples", "generation checks"):
        note = next(note for note in found.notes if note.startswith(f"The prompts of the {what} are plain text"))
        assert "no chats today" in note
    assert [v.generation for v in found.variants] == [v.generation for v in plain.variants]


@pytest.mark.parametrize("part", ["samples", "generation"])
def test_what_is_left_out_is_not_made(measure: Measure, part: str) -> None:
    found, _ = measure(**{part: None})
    for variant in found.variants:
        assert (variant.generation == []) == (part == "generation")
        assert (variant.samples == []) == (part == "samples")
        assert (variant.sampled is None) == (part == "samples")


def test_a_model_without_a_tokenizer_is_told_and_fails_nothing(measure: Measure, tmp_path: Path) -> None:
    for file in (tmp_path / "models" / "tiny").glob("tokenizer*"):
        file.unlink()
    found, _ = measure()
    for what in ("No samples were written.", "No generation checks were made."):
        assert any(note.startswith(what) for note in found.notes)
    assert all(variant.generation == [] and variant.sampled is None for variant in found.variants)
