"""A job of vocabulary pruning through its stages: each variant reads by its own tokenizer, and figures say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from secateur.contract.errors import InvalidInput, UnsupportedModel
from secateur.contract.measurements import Benchmarks
from secateur.contract.results import Pruned
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import kinds_of
from tests.fixtures.tokenizers import TOKENIZERS, WORDS, write_model
from tests.fixtures.whole_job import SHORT_SPEC, Job
from workers.engine.checkpoints.gguf_import import import_gguf
from workers.engine.checkpoints.new_folder import new_folder

TEXT = {"source": "local", "path": "words.txt"}
SPEC: dict[str, Any] = {
    "model": {"source": "local", "path": "tiny"},
    "pruning": {"kind": "vocabulary", "tokens": 320, "text": TEXT},
    "benchmark": {
        **SHORT_SPEC["benchmark"],
        "perplexity": {"texts": [TEXT], "tokens": 24, "windows": 6},
        "samples": {"prompts": ["the river"], "max_new_tokens": 4},
        "generation": {"prompts": 2, "max_new_tokens": 4},
    },
}


def _job(tmp_path: Path, spec: dict[str, Any] = SPEC, kind: str = "byte level") -> Job:
    write_model(tmp_path / "models" / "tiny", TOKENIZERS[kind](), beyond=5)
    (tmp_path / "words.txt").write_text(WORDS)
    return Job(tmp_path / "models", CompressionSpec.model_validate(spec), data_roots=(tmp_path,))


def test_a_job(tmp_path: Path) -> None:
    quantise = [{"kind": "gguf", "type": "F16"}]
    job = _job(tmp_path, {**SPEC, "quantise": quantise, "gates": {"max_bits_per_byte_rise": 1}})
    assert kinds_of(job.spec) == ("check", "prune", "quantise", "benchmark", "report")
    for name in kinds_of(job.spec):
        job.run(name)
    (checked,) = [check for check in job.results["check"].checks if check.name == "pruning"]
    assert "320 of 415 tokens stay" in checked.seen
    pruned: Pruned = job.results["prune"]
    kept = pruned.vocabulary
    assert kept is not None
    assert (kept.before, kept.after, kept.rows_before) == (415, 320, 420)
    assert 0 < kept.covered < 1
    assert pruned.parameters_before - pruned.parameters_after == (420 - 320) * 32 * 2
    assert pruned.calibration is not None
    assert len(json.loads((job.folders["prune"] / "kept_tokens.json").read_text())["kept"]) == 320
    checkpoint = job.folders["prune"] / "checkpoint"
    assert "320 of 415 tokens" in (checkpoint / "README.md").read_text()
    assert AutoModelForCausalLM.from_pretrained(checkpoint).config.vocab_size == 320
    benchmarks: Benchmarks = job.results["benchmark"]
    original, after, _ = benchmarks.variants
    assert [m.variant for m in benchmarks.variants] == ["original", "pruned", "pruned-gguf-f16"]
    for variant in benchmarks.variants:
        assert not variant.perplexity
        assert not variant.fidelity
    (before,), (now,), (file,) = (variant.bits_per_byte for variant in benchmarks.variants)
    assert before.bytes == now.bytes == file.bytes
    assert before.tokens < now.tokens == file.tokens
    assert before.rise is None
    assert now.rise == pytest.approx(now.value - before.value)
    assert file.value == pytest.approx(now.value, rel=1e-2)
    assert after.samples[0].tokens == 4
    assert after.generation[0].agreement is not None
    assert any("have other tokens" in note or "has other tokens" in note for note in benchmarks.notes)
    report = (job.folders["report"] / "report.html").read_text()
    assert "95 of 415 tokens removed" in report
    for words in ("Bits per byte", "Tokens per byte", "Bytes of text per second"):
        assert words in report
    assert job.results["report"].gates[0].gate == "max_bits_per_byte_rise"
    assert original.latency[0].tokens_per_second.median > 0


def test_a_gguf_file_has_the_tokens_that_are_left(tmp_path: Path) -> None:
    job = _job(tmp_path, {**SPEC, "quantise": [{"kind": "gguf", "type": "F16"}]})
    job.run("prune")
    made = job.folders["prune"] / "checkpoint"
    quantised = job.run("quantise").variants[0]
    with new_folder(tmp_path / "back") as folder:
        import_gguf(job.folders["quantise"] / quantised.path, folder)
    ours, back = AutoTokenizer.from_pretrained(made), AutoTokenizer.from_pretrained(tmp_path / "back")
    assert ours(WORDS)["input_ids"] == back(WORDS)["input_ids"]


@pytest.mark.parametrize("stage", ["check", "prune"])
@pytest.mark.parametrize(
    ("change", "error", "pointer"),
    [
        ({"tokens": 200}, InvalidInput, "/pruning/tokens"),
        ({"tokens": 415}, InvalidInput, "/pruning/tokens"),
        ({"text": {"source": "local", "path": "none.txt"}}, InvalidInput, "/pruning/text/path"),
        ({}, UnsupportedModel, "/pruning/kind"),
    ],
)
def test_what_cannot_be_is_told_at_its_field(
    stage: str, change: dict[str, Any], error: type[InvalidInput], pointer: str, tmp_path: Path
) -> None:
    job = _job(tmp_path, {**SPEC, "pruning": {**SPEC["pruning"], **change}})
    if error is UnsupportedModel:
        file = tmp_path / "models" / "tiny" / "tokenizer.json"
        written = json.loads(file.read_text())
        file.write_text(json.dumps({**written, "model": {**written["model"], "end_of_word_suffix": "</w>"}}))
    with pytest.raises(error) as caught:
        job.run(stage)
    assert pointer in [field.pointer for field in caught.value.errors]
