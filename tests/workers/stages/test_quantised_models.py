"""Jobs on models that are quantised already: they lose whole blocks, and are measured where this machine can."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

from secateur.contract.errors import BadCheckpoint, InvalidInput, UnsupportedModel
from secateur.contract.jobs import Verdict
from secateur.contract.measurements import Benchmarks
from secateur.contract.models.quantised import METHODS
from secateur.contract.report import Report
from secateur.contract.results import Pruned
from secateur.contract.spec import CompressionSpec
from tests.fixtures.whole_job import Job, run_job, tiny_llama
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.computable import check_quantiser_settings, why_not_computable
from workers.engine.model.loading import load_model
from workers.engine.quantise.linear_weights import quantise_linear

BENCHMARK: dict[str, Any] = {
    "latency": {"input_tokens": 4, "output_tokens": [4], "warmup": 0, "runs": 3},
    "perplexity": {"tokens": 16, "windows": 4},
    "samples": None,
    "generation": None,
}
SHORT = {"samples": 2, "tokens": 16}  # the model has 64 positions

SPEC: dict[str, Any] = {
    "model": {"source": "local", "path": "tiny"},
    "recovery": {"kind": "none"},
    "benchmark": BENCHMARK,
    "gates": {"max_parameters": 10_000_000, "min_speedup": 1.0},
}
SIZES_ALONE: dict[str, Any] = {
    "latency": None,
    "perplexity": None,
    "fidelity": {"enabled": False},
    "samples": None,
    "generation": None,
    "tasks": None,
}
UNMEASURED = {**SPEC, "benchmark": SIZES_ALONE}

ROWS, COLUMNS = 64, 32  # of the matrix that the made-up checkpoints have quantised, the up-projection

# method → its settings, the tensors that stand for one matrix, and the package that this environment lacks
MADE_UP: dict[str, tuple[dict[str, Any], dict[str, Tensor], str]] = {
    "gptq": (
        {"quant_method": "gptq", "bits": 4, "group_size": 8, "desc_act": False, "sym": True},
        {
            "qweight": torch.ones(COLUMNS // 8, ROWS, dtype=torch.int32),
            "qzeros": torch.ones(COLUMNS // 8, ROWS // 8, dtype=torch.int32),
            "scales": torch.ones(COLUMNS // 8, ROWS, dtype=torch.float16),
            "g_idx": torch.zeros(COLUMNS, dtype=torch.int32),
        },
        "optimum",
    ),
    "awq": (
        {"quant_method": "awq", "bits": 4, "group_size": 8, "zero_point": True, "version": "gemm"},
        {
            "qweight": torch.ones(COLUMNS, ROWS // 8, dtype=torch.int32),
            "qzeros": torch.ones(COLUMNS // 8, ROWS // 8, dtype=torch.int32),
            "scales": torch.ones(COLUMNS // 8, ROWS, dtype=torch.float16),
        },
        "gptqmodel",
    ),
    "bitsandbytes": (
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
        {
            "weight": torch.ones(ROWS * COLUMNS // 2, 1, dtype=torch.uint8),
            "weight.absmax": torch.ones(ROWS * COLUMNS // 64),
            "weight.quant_map": torch.ones(16),
            "weight.quant_state.bitsandbytes__nf4": torch.ones(80, dtype=torch.uint8),
        },
        "bitsandbytes",
    ),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    model = tiny_llama(hidden_size=COLUMNS, intermediate_size=ROWS, num_hidden_layers=4)
    model.save_pretrained(tmp_path / "plain")
    return tmp_path


@pytest.fixture(params=MADE_UP)
def method(request: pytest.FixtureRequest, root: Path) -> str:
    """Makes the folder "tiny" of a checkpoint as this method stores one."""
    name: str = request.param
    settings, parts, package = MADE_UP[name]
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed, so this machine may be able to run such a model")
    target = root / "tiny"
    target.mkdir()
    config = json.loads((root / "plain" / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, "quantization_config": settings}))
    tensors = load_file(root / "plain" / "model.safetensors")
    for block in range(4):
        del tensors[f"model.layers.{block}.mlp.up_proj.weight"]
        for part, tensor in parts.items():
            tensors[f"model.layers.{block}.mlp.up_proj.{part}"] = tensor + block
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return name


def test_named_blocks_go_and_sizes_are_taken(method: str, root: Path) -> None:
    results, _ = run_job(root, {**UNMEASURED, "pruning": {"kind": "depth", "drop": [1]}})
    pruned: Pruned = results["prune"]
    assert pruned.kept == [0, 2, 3]
    old, new = (load_file(folder / "model.safetensors") for folder in (root / "tiny", checkpoint_of(root)))
    for part in MADE_UP[method][1]:
        name = f"mlp.up_proj.{part}"
        assert torch.equal(new[f"model.layers.1.{name}"], old[f"model.layers.2.{name}"])

    benchmarks: Benchmarks = results["benchmark"]
    original, after = benchmarks.variants
    assert original.parameters == pruned.parameters_before > after.parameters == pruned.parameters_after
    assert original.bytes_on_disk == Checkpoint.open(root / "tiny").total_bytes
    assert after.bytes_on_disk == pruned.bytes_after
    assert (original.blocks, after.blocks) == (4, 3)
    assert [after.latency, after.perplexity, after.fidelity, after.memory, after.tasks] == [[], [], [], None, []]
    (note,) = benchmarks.notes
    assert note == "Only sizes were taken, from the files: the job asks for no other measurement."

    final: Report = results["report"]
    assert note in final.notes
    assert final.verdict is Verdict.FAILED  # what a gate needs was not measured
    assert {gate.gate: gate.passed for gate in final.gates} == {"max_parameters": True, "min_speedup": False}


def test_what_cannot_be_measured_is_told_before_anything_is_pruned(method: str, root: Path) -> None:
    with pytest.raises(UnsupportedModel) as caught:
        run_job(root, {**SPEC, "pruning": {"kind": "depth", "drop": [1]}})
    found = {error.pointer: error for error in caught.value.errors}
    assert list(found) == ["/benchmark/latency", "/benchmark/perplexity", "/benchmark/fidelity/enabled"]
    error = found["/benchmark/latency"]
    assert error.value == method
    assert f"quantised ({method}), and this worker cannot compute with it: " in error.detail
    assert MADE_UP[method][2] in error.detail
    assert error.expected == f"null, or a worker with what transformers needs for {method}"
    assert (found["/benchmark/fidelity/enabled"].expected or "").startswith("false, ")
    assert not (root / "work" / "prune").exists()


def test_a_worker_without_kernels_that_the_check_had_says_so_too(method: str, root: Path) -> None:
    """The check may have run elsewhere."""
    job = Job(root, CompressionSpec.model_validate({**SPEC, "pruning": {"kind": "depth", "drop": [1]}}))
    job.run("prune")
    with pytest.raises(UnsupportedModel) as caught:
        job.run("benchmark")
    pointers = ["/benchmark/latency", "/benchmark/perplexity", "/benchmark/fidelity/enabled"]
    assert [error.pointer for error in caught.value.errors] == pointers


@pytest.mark.parametrize("settings", [MADE_UP[name][0] for name in MADE_UP])
def test_a_quantiser_that_was_not_at_work_is_told(settings: dict[str, Any], root: Path) -> None:
    refused = _refused(root, settings)
    name = settings["quant_method"]
    assert refused.detail == (
        f"config.json says that the weights are quantised ({name}), and all tensors are stored as plain numbers."
    )
    (error,) = refused.errors
    assert (error.pointer, error.value) == ("/model", name)
    assert error.expected == f"weights as {name} stores them, or a config.json without `quantization_config`"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"quant_method": "nonesuch"}, "names the method 'nonesuch', which transformers does not know."),
        ({"quant_method": ["gptq"]}, "names the method \"['gptq']\", which transformers does not know."),
        ({"bits": 4}, "names no `quant_method`."),
        ({}, "names no `quant_method`."),
        (5, "is no JSON object."),
        ({"quant_method": "bitsandbytes"}, "is of bitsandbytes and does not say how many bits a weight has."),
    ],
)
def test_a_quantiser_that_nobody_can_follow_is_told(settings: Any, words: str, root: Path) -> None:
    refused = _refused(root, settings)
    assert refused.detail == f"config.json: `quantization_config` {words}"
    (error,) = refused.errors
    assert error.pointer == "/model"
    assert error.value is not None
    assert error.expected


def _refused(root: Path, settings: Any) -> InvalidInput:
    """What the check says of plain weights under a config with these settings, where sizes alone are asked for."""
    config = json.loads((root / "plain" / "config.json").read_text())
    (root / "plain" / "config.json").write_text(json.dumps({**config, "quantization_config": settings}))
    spec = {**UNMEASURED, "model": {"source": "local", "path": "plain"}}
    with pytest.raises(InvalidInput) as caught:
        Job(root, CompressionSpec.model_validate({**spec, "pruning": {"kind": "depth", "drop": [1]}})).run("check")
    return caught.value


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"quant_method": "gptq", "group_size": 8}, "`quantization_config` has no `bits`, which gptq needs."),
        ({"quant_method": "gptq", "bits": 17}, "`quantization_config` is none that gptq writes: "),
        ({"load_in_4bit": True, "bnb_4bit_quant_type": 5}, "`quantization_config` is none that bitsandbytes writes: "),
    ],
)
def test_settings_that_the_quantiser_does_not_write_are_told(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(BadCheckpoint, match=words):
        check_quantiser_settings({"quantization_config": settings})


def test_the_methods_are_those_of_transformers() -> None:
    assert set(METHODS) == {name.removesuffix("_4bit").removesuffix("_8bit") for name in AUTO_QUANTIZER_MAPPING}


def checkpoint_of(root: Path) -> Path:
    return root / "work" / "prune" / "out" / "checkpoint"


def test_scoring_is_refused_with_what_to_do(method: str, root: Path) -> None:
    scoring = {"criterion": "perplexity", "plus": False, "calibration": SHORT}
    with pytest.raises(UnsupportedModel) as caught:
        run_job(root, {**UNMEASURED, "pruning": {"kind": "depth", "blocks": 1}, "scoring": scoring})
    (error,) = caught.value.errors
    assert error.pointer == "/scoring"
    assert error.value == method
    assert MADE_UP[method][2] in error.detail
    assert '"drop": [21, 22]' in (error.expected or "")


def test_what_no_machine_can_do_is_refused_before_anything_is_written(method: str, root: Path) -> None:
    asked: tuple[tuple[dict[str, Any], str], ...] = (
        ({"recovery": {"kind": "lora", "tokens": 16}}, "/recovery/kind"),
        ({"quantise": [{"kind": "int8"}]}, "/quantise"),
        ({"pruning": {"kind": "flap", "ratio": 0.2, "calibration": SHORT}}, "/pruning/kind"),
    )
    for fields, pointer in asked:
        with pytest.raises(UnsupportedModel) as caught:
            run_job(root, {**UNMEASURED, "pruning": {"kind": "depth", "drop": [1]}, **fields})
        assert [error.pointer for error in caught.value.errors] == [pointer]
        assert not (root / "work" / "prune").exists()


def test_named_halves_go(method: str, root: Path) -> None:
    results, folders = run_job(root, {**UNMEASURED, "pruning": {"kind": "sub_block", "drop": ["1.mlp", "2.attention"]}})
    pruned: Pruned = results["prune"]
    assert pruned.needs_loader
    old, new = (load_file(folder / "model.safetensors") for folder in (root / "tiny", checkpoint_of(root)))
    gone = ("layers.1.mlp.", "layers.1.post_", "layers.2.self_attn.", "layers.2.input_")
    assert {name for name in old if name not in new} == {name for name in old if name.startswith(gone, len("model."))}
    assert all(torch.equal(old[name], tensor) for name, tensor in new.items())
    settings = json.loads((checkpoint_of(root) / "config.json").read_text())["quantization_config"]
    assert settings["quant_method"] == method
    after = results["benchmark"].variants[1]
    assert after.parameters == pruned.parameters_after < pruned.parameters_before
    assert after.bytes_on_disk == pruned.bytes_after == sum(tensor.nbytes for tensor in new.values())
    assert "Plain transformers cannot load" in (folders["report"] / "report.md").read_text()
    with pytest.raises(UnsupportedModel, match="this worker cannot compute with it"):
        load_model(Checkpoint.open(checkpoint_of(root)), device=torch.device("cpu"), dtype=torch.float32)


def test_a_search_for_halves_is_refused_with_what_to_do(method: str, root: Path) -> None:
    with pytest.raises(UnsupportedModel) as caught:
        run_job(root, {**UNMEASURED, "pruning": {"kind": "sub_block", "units": 1, "calibration": SHORT}})
    (error,) = caught.value.errors
    assert (error.pointer, error.value) == ("/pruning", method)
    assert '"drop": ["3.mlp"]' in (error.expected or "")


def test_loading_says_why_it_cannot(method: str, root: Path) -> None:
    reason = why_not_computable(Checkpoint.open(root / "tiny").config)
    assert reason is not None
    with pytest.raises(UnsupportedModel, match="this worker cannot compute with it") as caught:
        load_model(Checkpoint.open(root / "tiny"), device=torch.device("cpu"), dtype=torch.float32)
    assert caught.value.errors[0].pointer == "weights"


def test_methods_that_nobody_knows_are_a_reason_too() -> None:
    for settings in ({"quant_method": "of my own"}, {"bits": 4}):
        assert "cannot compute with it" in str(why_not_computable({"quantization_config": settings}))
    assert why_not_computable({"quantization_config": None}) is None
    assert why_not_computable({}) is None


@pytest.mark.thorough
@pytest.mark.parametrize(("bits", "group_size"), [(8, None), (4, 16)])
def test_compressed_tensors_are_scored_and_measured(bits: int, group_size: int | None, root: Path) -> None:
    """transformers unpacks them, so the whole job runs."""
    quantise_linear(Checkpoint.open(root / "plain"), root / "tiny", bits=bits, group_size=group_size)
    scoring = {"criterion": "perplexity", "plus": False, "calibration": {"samples": 2, "tokens": 16}}
    results, _ = run_job(root, {**SPEC, "pruning": {"kind": "depth", "blocks": 1}, "scoring": scoring})
    assert len(results["score"].order) == 4
    pruned = checkpoint_of(root)
    assert (
        json.loads((pruned / "config.json").read_text())["quantization_config"]["quant_method"] == "compressed-tensors"
    )
    after = results["benchmark"].variants[1]
    assert after.fidelity[0].kl > 0
    assert after.latency[0].speedup is not None
    assert after.bytes_on_disk < results["benchmark"].variants[0].bytes_on_disk


@pytest.mark.thorough
@pytest.mark.parametrize(("bits", "group_size"), [(8, None), (4, 16)])
def test_halves_of_compressed_tensors_are_searched_and_measured(bits: int, group_size: int | None, root: Path) -> None:
    quantise_linear(Checkpoint.open(root / "plain"), root / "tiny", bits=bits, group_size=group_size)
    pruning = {"kind": "sub_block", "units": 2, "calibration": {"samples": 2, "tokens": 16}}
    results, _ = run_job(root, {**SPEC, "pruning": pruning})
    pruned: Pruned = results["prune"]
    assert pruned.unit_scores is not None
    assert sorted(pruned.unit_scores.order[:2]) == sorted(pruned.units)
    after = results["benchmark"].variants[1]
    assert after.fidelity[0].kl > 0
    assert after.latency[0].speedup is not None
    assert after.bytes_on_disk == pruned.bytes_after < pruned.bytes_before
