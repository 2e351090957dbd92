"""The check stage: all that is wrong is told at once, at its field, before anything is computed."""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from transformers import Gemma2Config, Gemma2ForCausalLM, MixtralConfig, MixtralForCausalLM

from secateur.contract.errors import BadCheckpoint, InvalidInput
from secateur.contract.results import Checked, Licence
from secateur.contract.spec import CompressionSpec
from tests.fixtures.task_files import DEFINITION
from tests.fixtures.whole_job import Job
from tests.workers.engine.text.test_tokenizing import LOOKS_BACK, with_pattern
from workers.engine.text import tokenizing
from workers.stages.checks import table

TEXT = {"source": "local", "path": "words.txt"}
SPEC: dict[str, Any] = {
    "model": {"source": "local", "path": "tiny"},
    "scoring": {"criterion": "perplexity", "plus": False, "calibration": {"text": TEXT, "samples": 4, "tokens": 32}},
    "pruning": {"kind": "depth", "blocks": 2},
    "recovery": {"kind": "lora", "text": TEXT, "tokens": 32, "max_steps": 2, "warmup_steps": 0},
    "quantise": [{"kind": "int8"}],
    "benchmark": {"latency": {"input_tokens": 4}, "perplexity": {"texts": [TEXT], "tokens": 32, "windows": 4}},
}
Check = Callable[..., Checked]


@pytest.fixture
def check(tiny_checkpoint: Callable[..., Path], text_file: Path) -> Check:
    """Check SPEC with changes to its sections."""
    root = tiny_checkpoint().parent
    (root / "words.txt").symlink_to(text_file)

    def run(**changes: Any) -> Checked:
        spec = CompressionSpec.model_validate({**SPEC, **changes})
        job = Job(root, spec, data_roots=(root, text_file.parent))
        checked: Checked = job.run("check")
        return checked

    return run


def pointers(check: Check, **changes: Any) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        check(**changes)
    assert all(error.detail and error.expected for error in caught.value.errors)
    return [error.pointer for error in caught.value.errors]


def model_folder(tmp_path: Path) -> Path:
    return tmp_path / "models" / "tiny"


def test_what_was_seen_stands_in_the_result(check: Check) -> None:
    checked = check()
    assert (checked.model.family, checked.model.blocks) == ("llama", 8)
    seen = {row.name: row.seen for row in checked.checks}
    assert seen["model"].endswith(" parameters, 256 positions")
    assert seen["tokenizer"].endswith(" tokens, no chat template")
    assert seen["pruning"] == "2 of 8 blocks go, 0 are protected"
    assert seen["calibration text"].startswith("4 × 32 tokens of words.txt")
    assert list(seen) == [
        "model",
        "pruning",
        "recovery",
        "quantise",
        "latency",
        "samples",
        "tokenizer",
        "calibration text",
        "training text",
        "measuring text",
    ]


def test_the_licence_is_what_the_models_card_says(check: Check, tmp_path: Path) -> None:
    assert check().model.licence is None
    (model_folder(tmp_path) / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    assert check().model.licence == Licence(name="apache-2.0")


def test_every_fault_is_told_at_once(check: Check) -> None:
    assert pointers(
        check,
        pruning={"kind": "depth", "drop": [1, 9]},
        recovery={"kind": "lora", "text": {"source": "local", "path": "none.txt"}},
        quantise=[{"kind": "int8"}, {"kind": "int4", "group_size": 64}],
        benchmark={"tasks": {"tasks": ["x"], "folder": "nowhere"}, "perplexity": {"tokens": 512}},
    ) == [
        "/pruning/drop/1",
        "/quantise/1/group_size",
        "/benchmark/tasks/folder",
        "/recovery/text/path",
        "/benchmark/perplexity/tokens",
    ]


def test_text_that_the_model_writes_is_held_to_its_context(check: Check) -> None:
    own = {"source": "self"}
    assert pointers(check, recovery={"kind": "distill", "text": own, "tokens": 300}) == ["/recovery/tokens"]
    assert pointers(check, benchmark={"perplexity": {"texts": [own], "tokens": 300}, "latency": None}) == [
        "/benchmark/perplexity/tokens"
    ]


def test_what_the_model_has_to_write_and_to_train_is_told_before(check: Check) -> None:
    own = {"text": {"source": "self"}, "tokens": 32}
    seen = {
        row.name: row.seen
        for row in check(
            scoring={"criterion": "perplexity", "calibration": {**own, "samples": 5}},
            recovery={"kind": "lora", **own, "batch_size": 8, "max_steps": 6},
            benchmark={"perplexity": {"texts": [own["text"]], "tokens": 32, "windows": 3}},
        ).checks
    }
    assert seen["calibration text"] == "5 × 32 tokens that the model writes"
    assert seen["training text"] == "24 × 32 tokens that the model writes; 6 steps of 256 tokens"
    assert seen["measuring text"] == "3 × 32 tokens that the model writes"
    healing = check(recovery={"kind": "healing", **own, "samples": 9}).checks
    assert "9 × 32 tokens that the model writes" in {row.seen for row in healing}


def test_prompts_that_the_model_is_to_answer_are_read_before(check: Check, text_file: Path) -> None:
    (text_file.parent / "prompts.txt").write_text("Who?\nWhy?\n")
    text = {"source": "answers", "prompts": {"source": "local", "path": "prompts.txt"}}
    asked = {"kind": "distill", "text": text, "tokens": 32, "batch_size": 8, "max_steps": 6, "epochs": 1}
    seen = {row.name: row.seen for row in check(recovery=asked).checks}
    assert seen["training text"].startswith(
        "48 × 32 tokens that the model writes, in answer to 2 prompts of prompts.txt, 0 to 1; 6 steps of 256 tokens"
    )
    (text_file.parent / "prompts.jsonl").write_text('{"words": "Who?"}\n')
    text["prompts"] = {"source": "local", "path": "prompts.jsonl"}
    calibration = {"text": text, "samples": 2, "tokens": 32}
    assert pointers(
        check,
        recovery=asked,
        scoring={"criterion": "perplexity", "calibration": calibration},
        benchmark={"perplexity": {"texts": [TEXT, text], "tokens": 32, "windows": 2}, "latency": None},
    ) == [
        "/scoring/calibration/text/prompts",
        "/recovery/text/prompts",
        "/benchmark/perplexity/texts/1/prompts",
    ]
    assert pointers(check, recovery={**asked, "text": {"source": "answers"}, "tokens": 8}) == ["/recovery/tokens"]


def test_of_a_blend_each_part_is_looked_at(check: Check) -> None:
    def blend(*texts: dict[str, Any]) -> dict[str, Any]:
        return {"source": "blend", "parts": [{"text": text} for text in texts]}

    own, none = {"source": "self"}, {"source": "local", "path": "news.jsonl"}
    recovery = {"kind": "distill", "tokens": 32, "batch_size": 8, "max_steps": 6, "epochs": 1}
    seen = {row.name: row.seen for row in check(recovery={**recovery, "text": blend(own, TEXT)}).checks}
    assert seen["training text"].startswith("24 × 32 tokens that the model writes; 24 × 32 tokens of words.txt")
    assert "; 6 steps of 256 tokens" in seen["training text"]
    measured = {"texts": [blend(TEXT, TEXT)], "tokens": 32, "windows": 4}
    seen = {row.name: row.seen for row in check(benchmark={"perplexity": measured, "latency": None}).checks}
    assert seen["measuring text"] == "4 windows of 2 of words.txt, 0 to 1; 2 of words.txt, 0 to 1"
    for text in (blend(own, none), blend(TEXT, none)):
        assert pointers(
            check,
            recovery={**recovery, "text": text},
            scoring={"criterion": "perplexity", "calibration": {"text": text, "samples": 4, "tokens": 32}},
            benchmark={"perplexity": {"texts": [text], "tokens": 32, "windows": 2}, "latency": None},
        ) == [
            "/scoring/calibration/text/parts/1/text/path",
            "/recovery/text/parts/1/text/path",
            "/benchmark/perplexity/texts/0/parts/1/text/path",
        ]


def test_what_distillation_stores_is_told_and_refused_without_room(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = {"kind": "distill", "tokens": 32, "batch_size": 8, "max_steps": 2, "top_k": 10}
    for text, samples, disk in ((TEXT, 16, "19.5 kB"), ({"source": "self"}, 8, "9.73 kB")):
        seen = {row.name: row.seen for row in check(recovery={**stored, "text": text}).checks}
        assert f"the original's predictions on {samples} samples take {disk} of disk" in seen["training text"]
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**9, 10**9, 0))
    assert pointers(check, recovery={**stored, "text": TEXT}) == ["/recovery/top_k"]


def test_a_warm_up_that_the_text_is_too_short_for_is_refused(check: Check) -> None:
    recovery = {"kind": "distill", "tokens": 64, "text": TEXT, "batch_size": 64, "warmup_steps": 500}
    assert pointers(check, recovery=recovery) == ["/recovery/warmup_steps"]


def test_what_no_stage_uses_is_not_looked_at(check: Check) -> None:
    unused = {"criterion": "perplexity", "calibration": {"text": {"source": "local", "path": "none.txt"}}}
    assert check(scoring=unused, pruning={"kind": "depth", "drop": [2]}).model.blocks == 8


def test_a_tokenizer_is_blamed_once_for_all_texts(check: Check, tmp_path: Path) -> None:
    (model_folder(tmp_path) / "tokenizer.json").write_text('{"version": "1.0"')
    assert len(pointers(check)) == 1


def test_a_prompt_that_the_tokenizer_takes_for_ever_for_is_told_at_the_prompt(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizing, "ENCODE_SECONDS", 1.5)
    monkeypatch.setattr(tokenizing, "CHARACTERS_A_SECOND", 1e9)
    with_pattern(LOOKS_BACK).save_pretrained(model_folder(tmp_path))
    prompts = ["The", "plain text, " * 20_000]
    benchmark = {"latency": None, "perplexity": None, "samples": {"prompts": prompts, "max_new_tokens": 4}}
    asked = pointers(check, scoring={"criterion": "magnitude"}, recovery={"kind": "none"}, benchmark=benchmark)
    assert asked == ["/benchmark/samples/prompts/1"]


def test_a_model_that_cannot_be_opened_ends_the_check(check: Check, tmp_path: Path) -> None:
    weights = model_folder(tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(BadCheckpoint) as caught:
        check()
    (error,) = caught.value.errors
    assert (error.pointer, error.value) == ("/model/path", "tiny")


def test_what_nobody_foresaw_is_put_to_the_field(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(subject: Any) -> str:
        raise KeyError("inv_freq")

    row = table.Row("recovery", broken, "/recovery", "a recovery that holds")
    rows = tuple(row if known.name == "recovery" else known for known in table.CHECKS)
    monkeypatch.setattr("workers.stages.check.CHECKS", rows)
    with pytest.raises(InvalidInput, match="KeyError: 'inv_freq'") as caught:
        check()
    assert caught.value.errors[0].pointer == "/recovery"


def test_a_full_disk_is_nobodys_fault(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(subject: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("workers.stages.check.CHECKS", (table.Row("model", full, "/model", "x"),))
    with pytest.raises(OSError, match="No space"):
        check()


def test_the_result_is_left_for_the_stages_that_follow(check: Check, tmp_path: Path) -> None:
    checked = check()
    written = tmp_path / "models" / "work" / "check" / "out" / "checked.json"
    assert json.loads(written.read_text())["model"]["fingerprint"] == checked.model.fingerprint


def test_what_a_family_or_this_worker_cannot_do_is_seen_before_anything_is_walked(check: Check, tmp_path: Path) -> None:
    sizes: Any = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 8, "num_attention_heads": 4}
    more: Any = {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256, "vocab_size": 259}
    Gemma2ForCausalLM(Gemma2Config(**sizes, **more)).save_pretrained(model_folder(tmp_path))
    split = {**SPEC["recovery"], "shard": True}  # among processes, and the worker has one
    assert pointers(check, recovery=split, quantise=[]) == ["/recovery/shard"]
    healing = {"kind": "healing", "text": TEXT, "tokens": 32}
    assert check(recovery=healing, quantise=[])  # a norm follows the MLP: the block before the cut is trained
    assert pointers(check, recovery={**healing, "neurons": 0.5}, quantise=[]) == ["/recovery/neurons"]


def test_weights_that_cannot_be_written_back_are_told_before_they_are_trained(check: Check, tmp_path: Path) -> None:
    sizes: Any = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 8, "num_attention_heads": 4}
    more: Any = {"num_key_value_heads": 2, "num_local_experts": 4, "max_position_embeddings": 256, "vocab_size": 259}
    MixtralForCausalLM(MixtralConfig(**sizes, **more)).save_pretrained(model_folder(tmp_path))
    text = {"text": TEXT, "tokens": 32, "max_steps": 2}
    assert pointers(check, recovery={"kind": "continued", **text}, quantise=[]) == ["/recovery/kind"]
    for train in ("all", "after_cut", "last_blocks"):
        assert pointers(check, recovery={"train": train, **text}, quantise=[]) == ["/recovery/train"]
    dropped = {"kind": "depth", "drop": [2]}
    assert pointers(check, recovery={"train": "after_cut", **text}, pruning=dropped, quantise=[]) == ["/recovery/train"]
    assert check(recovery=text, quantise=[])  # adapters are trained
    healing = {"kind": "healing", "text": TEXT, "tokens": 32}
    assert check(recovery=healing, quantise=[])
    assert pointers(check, recovery={**healing, "neurons": 0.5}, quantise=[]) == ["/recovery/neurons"]


def test_more_blocks_than_stay_cannot_be_the_last_that_are_trained(check: Check) -> None:
    last = {"train": "last_blocks", "text": TEXT, "tokens": 32, "max_steps": 2}
    for kind in ("distill", "continued"):
        assert pointers(check, recovery={**last, "kind": kind, "last_blocks": 7}) == ["/recovery/last_blocks"]
        assert check(recovery={**last, "kind": kind, "last_blocks": 6})  # of eight two go


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("rows", ("[259, ", "[328, ")),
        ("nan", ("'model.layers.3.mlp.up_proj.weight'", "NaN")),
        ("lfs", ("Git LFS pointer",)),
        ("layers", ("1000000000",)),
        ("generation list", ("generation_config.json", "not a JSON object")),
        ("generation cut off", ("generation_config.json", "not valid JSON")),
    ],
)
def test_files_that_are_not_those_of_a_model(check: Check, tmp_path: Path, fault: str, words: tuple[str, ...]) -> None:
    folder = model_folder(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    if fault == "nan":
        tensors = load_file(folder / "model.safetensors")
        tensors["model.layers.3.mlp.up_proj.weight"][0, 0] = float("nan")
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    elif fault == "lfs":
        (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n")
    elif fault.startswith("generation"):
        (folder / "generation_config.json").write_text("[1]" if fault == "generation list" else '{"eos_token_id": [')
    else:
        changes = {"vocab_size": 328} if fault == "rows" else {"num_hidden_layers": 10**9}
        (folder / "config.json").write_text(json.dumps({**config, **changes}))
    for pruning in ({"kind": "depth", "blocks": 2}, {"kind": "depth", "drop": [1]}):
        with pytest.raises(BadCheckpoint) as caught:
            check(pruning=pruning)
        told = json.dumps(caught.value.to_problem())
        assert all(word in told for word in words)
        assert "float32" not in told


@pytest.mark.thorough
def test_a_gate_on_a_task_of_one_item_is_told(check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "models" / "tasks"
    folder.mkdir()
    (folder / "choose.yaml").write_text(DEFINITION)
    row = {"noun": "thing", "choices": ["cold", "red"], "label": 0}
    (folder / "items.jsonl").write_text(json.dumps(row) + "\n")
    benchmark = {"tasks": {"tasks": ["choose_word"], "folder": "tasks"}}
    assert pointers(check, benchmark=benchmark, gates={"max_accuracy_drop": 0.1}) == ["/gates/max_accuracy_drop"]
    assert check(benchmark=benchmark, gates={"max_accuracy_drop": 0.1, "judge": "median"})
    (folder / "items.jsonl").write_text(2 * (json.dumps(row) + "\n"))
    assert check(benchmark=benchmark, gates={"max_accuracy_drop": 0.1})
