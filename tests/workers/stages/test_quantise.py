"""A job that quantises, through its stages: its own variants, measured and reported like the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from secateur.contract.errors import InvalidInput, UnsupportedModel
from secateur.contract.measurements import Benchmarks
from secateur.contract.options.quantise import Int4Quantisation, Int8Quantisation
from secateur.contract.report import Report
from secateur.contract.results import Quantised
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import kinds_of
from tests.fixtures.whole_job import Job, run_job
from workers.stages import quantise

SPEC: dict[str, Any] = {
    "model": {"source": "local", "path": "tiny"},
    "pruning": {"kind": "depth", "drop": [4]},
    "recovery": {"kind": "none"},
    "quantise": [{"kind": "int8"}, {"kind": "int4", "group_size": 16}, {"kind": "gguf", "type": "Q8_0"}],
    "benchmark": {
        "latency": {
            "input_tokens": 4,
            "output_tokens": [4],
            "warmup": 0,
            "runs": 3,
            "static_cache": True,
            "largest_batch": True,
        },
        "perplexity": {"tokens": 16, "windows": 4},
        "samples": {"prompts": ["The river"], "max_new_tokens": 3},
        "generation": {"prompts": 2, "checks": ["copying"], "max_new_tokens": 3},
    },
}


@pytest.fixture
def root(tmp_path: Path, tiny_checkpoint: Callable[..., Path]) -> Path:
    return tiny_checkpoint(hidden_size=64, intermediate_size=96).parent  # 96 is no multiple of 64


def job_of(root: Path, **fields: Any) -> Job:
    return Job(root, CompressionSpec.model_validate({**SPEC, **fields}))


@pytest.mark.thorough
def test_a_job_that_quantises(root: Path) -> None:
    stages = kinds_of(CompressionSpec.model_validate(SPEC))
    assert stages == (
        "check",
        "prune",
        "quantise",
        "benchmark",
        "report",
    )
    results, folders = run_job(root, SPEC)

    quantised: Quantised = results["quantise"]
    assert [variant.name for variant in quantised.variants] == ["int8", "int4-g16", "gguf-q8_0"]
    out = folders["quantise"]
    published = {str(file.relative_to(out)) for file in out.rglob("*") if file.is_file()}
    assert {"int8/checkpoint/model.safetensors", "int4-g16/checkpoint/README.md"} <= published
    assert {file for file in published if file.startswith("gguf")} == {"gguf-q8_0/model-Q8_0.gguf"}
    card = (out / "int8/checkpoint/README.md").read_text()
    assert "8-bit weights" in card
    assert "compressed-tensors" in card
    AutoModelForCausalLM.from_pretrained(out / "int8/checkpoint")  # as it is

    benchmarks: Benchmarks = results["benchmark"]
    by_name = {m.variant: m for m in benchmarks.variants}
    names = ["original", "pruned", "pruned-int8", "pruned-int4-g16", "pruned-gguf-q8_0"]
    assert list(by_name) == names
    kls = {name: by_name[name].fidelity[0].kl for name in names[1:]}
    assert kls["pruned-int8"] == pytest.approx(kls["pruned"], rel=0.1)
    assert abs(kls["pruned-int4-g16"] - kls["pruned"]) > abs(kls["pruned-int8"] - kls["pruned"])
    assert (
        by_name["pruned-int4-g16"].bytes_on_disk
        < by_name["pruned-int8"].bytes_on_disk
        < by_name["pruned"].bytes_on_disk
    )
    assert by_name["pruned-gguf-q8_0"].bytes_on_disk == quantised.variants[2].bytes
    for name in names[2:4]:
        assert by_name[name].latency[0].speedup is not None
        assert by_name[name].memory is not None
        assert by_name[name].samples
    file = by_name["pruned-gguf-q8_0"]
    assert (file.latency, file.memory) == ([], None)
    assert file.perplexity
    assert any("llama.cpp were not measured" in note for note in benchmarks.notes)
    assert any("unpacks int8, int4-g16" in note for note in benchmarks.notes)

    assert all(cell.static_cache for m in benchmarks.variants for cell in m.latency)
    assert any("largest batch that fits is measured on a GPU alone" in note for note in benchmarks.notes)

    written: Report = results["report"]
    assert written.final_variant == "pruned"
    assert written.quantised == quantised
    for form in ("report.html", "report.md"):
        text = (folders["report"] / form).read_text()
        assert "Quantised as int8" in text
        assert "static cache, allocated before the timing" in text
        assert "pruned-gguf-q8_0" in text.replace("\\_", "_")


def test_integers_chosen_on_a_text(root: Path) -> None:
    text = {"samples": 16, "tokens": 16}
    ways = [
        {"kind": "gptq", "group_size": 16, "calibration": text},
        {"kind": "int4", "group_size": 16},
    ]
    results, folders = run_job(root, {**SPEC, "quantise": ways, "benchmark": {**SPEC["benchmark"], "latency": None}})
    chosen, nearest = results["quantise"].variants
    assert (chosen.name, chosen.bytes, chosen.bits_per_weight) == ("gptq-g16", nearest.bytes, nearest.bits_per_weight)
    assert chosen.relative_error > nearest.relative_error  # of the weights, for the sake of the outputs
    assert chosen.text is not None
    assert (chosen.text.source, chosen.text.samples, chosen.text.tokens) == ("self", 16, 16)
    assert nearest.text is None
    out = folders["quantise"]
    assert {folder.name for folder in out.iterdir() if folder.is_dir()} == {"gptq-g16", "int4-g16"}
    AutoModelForCausalLM.from_pretrained(out / "gptq-g16/checkpoint")
    assert "16 × 16 tokens" in (out / "gptq-g16/checkpoint/README.md").read_text()
    assert "16 × 16 tokens" in (folders["report"] / "report.md").read_text()
    by_name = {m.variant: m for m in results["benchmark"].variants}
    assert by_name["pruned-gptq-g16"].fidelity[0].kl > 0


def test_what_a_killed_attempt_finished_is_not_made_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(root, quantise=[{"kind": "int8"}, {"kind": "int4", "group_size": 16}])
    job.run("prune")
    made: list[str] = []
    whole = quantise.integers

    def killed_at_the_second(making: quantise.Making[Any]) -> Any:
        made.append(making.options.kind)
        if made == ["int8", "int4"]:
            making.target.with_suffix(".part").mkdir(parents=True)
            raise KeyboardInterrupt
        return whole(making)

    killing = quantise.Way(killed_at_the_second, quantise.refuse_integers)
    monkeypatch.setattr(quantise, "QUANTISATIONS", {Int8Quantisation: killing, Int4Quantisation: killing})
    with pytest.raises(KeyboardInterrupt):
        job.run("quantise")
    found = job.run("quantise")
    assert made == ["int8", "int4", "int4"]
    assert [variant.name for variant in found.variants] == ["int8", "int4-g16"]
    assert not list(job.folders["quantise"].rglob("*.part"))


def test_what_cannot_be_quantised_is_said_before_the_training(root: Path) -> None:
    with pytest.raises(InvalidInput, match="no multiple of 64"):
        job_of(root, quantise=[{"kind": "int4", "group_size": 64}]).run("prune")


def test_a_file_that_llama_cpp_would_read_otherwise_is_refused(tiny_checkpoint: Callable[..., Path]) -> None:
    root = tiny_checkpoint(hidden_size=64, intermediate_size=96, hidden_act="gelu").parent
    with pytest.raises(UnsupportedModel, match="activation") as caught:
        job_of(root).run("prune")
    assert caught.value.errors[0].pointer == "/quantise/2"
