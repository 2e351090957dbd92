"""Depth pruning of a model that came as a GGUF file: the file is pruned too, still quantised."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from uuid import UUID

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from app.blobs.store import LocalStore, output_of
from secateur.contract.errors import InvalidInput, UnsupportedModel
from secateur.contract.measurements import RECOVERED_FILE
from secateur.contract.results import Pruned
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import kinds_of
from tests.fixtures.gguf_models import tiny_model, write_model
from tests.fixtures.tiny_gguf import write_tiny_gguf
from tests.fixtures.whole_job import Job, run_job, tiny_llama
from workers.engine.checkpoints.gguf_file import read_gguf_header
from workers.engine.checkpoints.gguf_import import import_gguf
from workers.stages import prune

SPEC: dict[str, Any] = {
    "model": {"source": "local", "path": "tiny.Q8_0.gguf"},
    "scoring": {"criterion": "magnitude", "plus": False},
    "recovery": {"kind": "none"},
    "benchmark": {
        "latency": None,
        "perplexity": None,
        "fidelity": {"enabled": False},
        "samples": None,
        "generation": None,
    },
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    model = tiny_llama(vocab_size=288, hidden_size=64, intermediate_size=96)
    write_tiny_gguf(tmp_path / "tiny.Q8_0.gguf", model, quantisation="Q8_0")
    model.save_pretrained(tmp_path / "folder")
    return tmp_path


def prune_job(root: Path, pruning: dict[str, Any], **more: Any) -> tuple[dict[str, Any], dict[str, Path]]:
    return run_job(root, {**SPEC, "pruning": {"kind": "depth", **pruning}, **more})


def test_a_scored_job_writes_the_file_without_its_blocks(root: Path) -> None:
    results, folders = prune_job(root, {"blocks": 2})
    pruned: Pruned = results["prune"]
    assert pruned.gguf is not None
    assert pruned.gguf.path == "tiny.Q8_0-pruned.gguf"
    target = folders["prune"] / pruned.gguf.path
    assert target.stat().st_size == pruned.gguf.bytes_after < pruned.gguf.bytes_before
    assert pruned.gguf.bytes_before == (root / "tiny.Q8_0.gguf").stat().st_size
    before, after = gguf.GGUFReader(root / "tiny.Q8_0.gguf"), gguf.GGUFReader(target)
    old = {tensor.name: tensor for tensor in before.tensors}
    assert after.fields["llama.block_count"].contents() == 4
    for tensor in after.tensors:
        _, _, rest = tensor.name.partition("blk.")
        position, _, part = rest.partition(".")
        name = f"blk.{pruned.kept[int(position)]}.{part}" if rest else tensor.name
        assert tensor.tensor_type == old[name].tensor_type
        assert np.array_equal(tensor.data, old[name].data)
    page = (folders["report"] / "report.html").read_text()
    assert "prune/tiny.Q8_0-pruned.gguf" in page
    assert "still quantised as it was" in page
    assert "tiny.Q8" in (folders["report"] / "report.md").read_text()


def test_it_is_stored_as_bytes_under_its_name(root: Path) -> None:
    _, folders = prune_job(root, {"drop": [1]})
    output = output_of(UUID("0193a1b2-0000-7000-8000-000000000002"), 1)
    stored_files = LocalStore(root / "artifacts").put_folder(folders["prune"], output, check=lambda: None)
    files = {file.path: file for file in stored_files}
    stored = files["tiny.Q8_0-pruned.gguf"]
    assert stored.content_type == "application/octet-stream"
    assert stored.size == (folders["prune"] / stored.path).stat().st_size


def test_it_can_be_left_out(root: Path) -> None:
    results, folders = prune_job(root, {"drop": [1], "gguf": False})
    assert results["prune"].gguf is None
    assert list(folders["prune"].glob("*.gguf")) == []


def test_a_folder_has_no_such_file(root: Path) -> None:
    folder = {"source": "local", "path": "folder"}
    with pytest.raises(InvalidInput) as caught:
        prune_job(root, {"drop": [1], "gguf": True}, model=folder)
    assert caught.value.errors[0].pointer == "/pruning/gguf"
    assert list((root / "work" / "prune" / "out").iterdir()) == []
    (root / "work" / "prune" / "out").rmdir()
    assert prune_job(root, {"drop": [1]}, model=folder)[0]["prune"].gguf is None


def test_what_the_format_cannot_say_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint is written all the same, unless the file was insisted on."""
    reason = "every 2 blocks of this model differ by their number"

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise UnsupportedModel(reason)

    monkeypatch.setattr(prune, "prune_gguf_depth", refuse)
    results, folders = prune_job(root, {"drop": [1]})
    assert results["prune"].gguf is None
    assert results["prune"].notes == [f"No GGUF file was written beside the checkpoint. {reason}"]
    assert (folders["prune"] / "checkpoint" / "model.safetensors").is_file()
    assert reason in (folders["report"] / "report.md").read_text()
    for folder in folders.values():
        folder.rename(folder.with_name("before"))
    with pytest.raises(UnsupportedModel) as caught:
        prune_job(root, {"drop": [1], "gguf": True})
    assert caught.value.errors[0].pointer == "/pruning/gguf"


def test_a_recovered_model_goes_as_it_came(root: Path) -> None:
    recovery = {"kind": "healing", "samples": 8, "tokens": 16}
    results, folders = run_job(root, {**SPEC, "pruning": {"kind": "depth", "drop": [2]}, "recovery": recovery})
    recovered = results["recover"]
    assert recovered.gguf is not None, recovered.notes
    pruned = gguf.GGUFReader(folders["prune"] / results["prune"].gguf.path)
    types = {tensor.name: (tensor.tensor_type, tensor.data.tobytes()) for tensor in pruned.tensors}
    now = {
        tensor.name: (tensor.tensor_type, tensor.data.tobytes())
        for tensor in gguf.GGUFReader(folders["recover"] / recovered.gguf.path).tensors
    }
    assert {name: kind for name, (kind, _) in now.items()} == {name: kind for name, (kind, _) in types.items()}
    other = {name for name in types if now[name] != types[name]}
    assert other  # what healing changed, and nothing else
    assert all(name.endswith(("attn_output.weight", "ffn_down.weight")) for name in other), other
    assert any("to the byte" in note for note in recovered.notes)
    target = folders["recover"] / recovered.gguf.path
    assert recovered.gguf.path == "gguf/tiny.Q8_0-recovered.gguf"
    assert recovered.gguf.bytes_before == (root / "tiny.Q8_0.gguf").stat().st_size
    assert recovered.gguf.bytes_after == target.stat().st_size < recovered.gguf.bytes_before
    import_gguf(target, root / "back")
    back: Any = AutoModelForCausalLM.from_pretrained(root / "back")
    made: Any = AutoModelForCausalLM.from_pretrained(folders["recover"] / "checkpoint", dtype=torch.float32)
    ids = torch.arange(10, 30)[None]
    with torch.no_grad():
        assert torch.allclose(back(ids).logits, made(ids).logits, atol=0.1)
    report = results["report"]
    assert report.model.file.bytes == recovered.gguf.bytes_before
    assert report.model.file.type == "Q8_0"
    page = (folders["report"] / "report.html").read_text()
    assert "recover/gguf/tiny.Q8_0-recovered.gguf" in page
    assert "came in Q8_0" in page
    page = (folders["report"] / "report.md").read_text()
    assert "| GGUF file |" in page
    assert "recover/gguf/tiny" in page


def test_a_file_that_was_not_quantised_is_not_quantised_afterwards(root: Path) -> None:
    model = tiny_llama(vocab_size=288, hidden_size=64, intermediate_size=96)
    write_tiny_gguf(root / "whole.gguf", model)
    recovery = {"kind": "healing", "samples": 8, "tokens": 16}
    spec = {**SPEC, "model": {"source": "local", "path": "whole.gguf"}}
    results, folders = run_job(root, {**spec, "pruning": {"kind": "depth", "drop": [2]}, "recovery": recovery})
    reader = gguf.GGUFReader(folders["recover"] / results["recover"].gguf.path)
    assert {tensor.tensor_type.name for tensor in reader.tensors} == {"F32"}
    assert [variant.variant for variant in results["benchmark"].variants] == ["original", "pruned", "recovered"]
    page = (folders["report"] / "report.md").read_text()
    assert "of the very weights of the recovered checkpoint" in page


def test_a_file_that_was_rounded_has_figures_of_its_own(root: Path) -> None:
    """Those that the checkpoint made of the file has where it stands in the recovered model's place."""
    model = tiny_llama(vocab_size=288, hidden_size=64, intermediate_size=96, spread=0.05)
    write_tiny_gguf(root / "rounded.gguf", model, quantisation="Q4_0")
    spec = {
        **SPEC,
        "model": {"source": "local", "path": "rounded.gguf"},
        "pruning": {"kind": "depth", "drop": [2]},
        "recovery": {"kind": "healing", "samples": 8, "tokens": 16},
        "benchmark": {**SPEC["benchmark"], "perplexity": {"tokens": 16, "windows": 4}, "fidelity": {"enabled": True}},
        "gates": {"max_kl": 100},
    }
    job = Job(root, CompressionSpec.model_validate(spec))
    for name in kinds_of(job.spec):
        job.run(name)
    measured = {variant.variant: variant for variant in job.results["benchmark"].variants}
    assert list(measured) == ["original", "pruned", "recovered", RECOVERED_FILE]
    file = job.folders["recover"] / job.results["recover"].gguf.path
    whole = read_gguf_header(file)
    assert measured[RECOVERED_FILE].bytes_on_disk == sum(tensor.nbytes for tensor in whole.tensors)
    assert any(f"Of {RECOVERED_FILE} the values in the file were measured" in n for n in job.results["report"].notes)
    assert any("The gates judge the recovered checkpoint" in note for note in job.results["report"].notes)

    shutil.rmtree(job.folders["recover"] / "checkpoint")
    import_gguf(file, job.folders["recover"] / "checkpoint")
    job.work = "again"
    again = {variant.variant: variant for variant in job.run("benchmark").variants}
    kl = measured[RECOVERED_FILE].fidelity[0].kl
    assert kl == pytest.approx(again["recovered"].fidelity[0].kl, rel=1e-6)
    assert abs(kl - measured["recovered"].fidelity[0].kl) > 1e-3 * kl
    assert measured[RECOVERED_FILE].perplexity[0].value == pytest.approx(again["recovered"].perplexity[0].value)


@pytest.mark.parametrize("model_type", ["gpt2", "phi3"])
def test_a_family_that_is_read_and_that_quantise_does_not_write_goes_as_it_came(model_type: str, root: Path) -> None:
    write_model(root / "other.gguf", tiny_model(model_type))
    recovery = {"kind": "continued", "samples": 8, "tokens": 16, "batch_size": 4, "max_steps": 2, "warmup_steps": 0}
    spec = {**SPEC, "model": {"source": "local", "path": "other.gguf"}, "pruning": {"kind": "depth", "drop": [1]}}
    results, folders = run_job(root, {**spec, "recovery": recovery})
    recovered = results["recover"]
    assert recovered.gguf is not None, recovered.notes
    import_gguf(folders["recover"] / recovered.gguf.path, root / "back")
    back: Any = AutoModelForCausalLM.from_pretrained(root / "back")
    made: Any = AutoModelForCausalLM.from_pretrained(folders["recover"] / "checkpoint", dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(back(torch.arange(10, 30)[None]).logits, made(torch.arange(10, 30)[None]).logits)


def test_a_family_that_quantise_does_not_write_is_not_written_with_other_widths(root: Path) -> None:
    """Its keys would have to be made of the config."""
    write_model(root / "other.gguf", tiny_model("phi3", num_key_value_heads=4))
    spec = {"model": {"source": "local", "path": "other.gguf"}, "benchmark": SPEC["benchmark"]}
    pruning = {"kind": "sub_block", "drop": ["1.attention"]}
    recovery = {"kind": "continued", "samples": 8, "tokens": 16, "batch_size": 4, "max_steps": 2, "warmup_steps": 0}
    results, _ = run_job(root, {**spec, "pruning": pruning, "recovery": recovery})
    assert results["recover"].gguf is None
    assert any(note.startswith("The recovered model is not handed out as a GGUF") for note in results["recover"].notes)


def test_of_a_file_too_the_set_that_heals_best_goes(root: Path) -> None:
    job = Job(
        root,
        CompressionSpec.model_validate(
            {
                **SPEC,
                "scoring": {
                    "criterion": "block_influence",
                    "plus": False,
                    "calibration": {"samples": 4, "tokens": 16},
                    "after_healing": True,
                    "candidates": 3,
                    "healing_samples": 8,
                    "finalists": 2,
                    "finalist_steps": 2,
                },
                "pruning": {"kind": "depth", "blocks": 2},
                "recovery": {"kind": "healing", "samples": 4, "tokens": 16},
            }
        ),
    )
    for name in ("score", "choose", "prune"):
        job.run(name)
    assert job.results["choose"].text.source == "self"
    assert job.results["prune"].dropped == job.results["choose"].dropped
    left = gguf.GGUFReader(job.folders["prune"] / "tiny.Q8_0-pruned.gguf")
    assert left.fields["llama.block_count"].contents() == 4
