"""A job that makes a draft, from its check to its report, beside a target that it shares a tokenizer with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from secateur.contract.errors import InvalidInput, StageFailed
from secateur.contract.jobs import Verdict
from secateur.contract.measurements import DraftDifference, DraftFigures
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import kinds_of
from tests.fixtures.reports import draft_figures
from tests.fixtures.whole_job import SHORT_SPEC, Job
from workers.engine.runtime import Machine
from workers.reporting import html, markdown
from workers.stages import benchmark_draft

SPEC: dict[str, Any] = {
    "model": {"source": "local", "path": "tiny"},
    "use": "draft",
    "target_model": {"source": "local", "path": "large"},
    "scoring": {"criterion": "magnitude", "plus": False},
    "pruning": {"kind": "depth", "drop": [3]},
    "recovery": {"kind": "none"},
    "benchmark": {
        **SHORT_SPEC["benchmark"],
        "latency": None,
        "perplexity": None,
        "fidelity": {"enabled": False},
        "draft": {"tokens": 3, "prompts": 2, "max_new_tokens": 12, "runs": 1},
    },
    "gates": {"min_draft_equal": 1},
}


@pytest.fixture
def root(tiny_checkpoint: Callable[..., Path]) -> Path:
    """A target `large` of 6 blocks, and `tiny`, which is its first 4."""
    large = tiny_checkpoint("large", num_hidden_layers=6)
    model: Any = AutoModelForCausalLM.from_pretrained(large)
    model.model.layers = model.model.layers[:4]
    model.config.num_hidden_layers = 4
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[:4]
    tiny = large.parent / "tiny"
    shutil.copytree(large, tiny)
    (tiny / "model.safetensors").unlink()
    model.save_pretrained(tiny)
    return large.parent


def job(root: Path, **changes: Any) -> Job:
    return Job(root, CompressionSpec.model_validate({**SPEC, **changes}))


def checked(root: Path, **changes: Any) -> dict[str, str]:
    return {row.name: row.seen for row in job(root, **changes).run("check").checks}


def refused(root: Path, **changes: Any) -> Any:
    with pytest.raises(InvalidInput) as caught:
        job(root, **changes).run("check")
    (error,) = caught.value.errors
    return error


def test_a_whole_job(root: Path) -> None:
    run = job(root)
    for name in kinds_of(run.spec):
        run.run(name)
    report = run.results["report"]
    assert run.results["check"].target_model.blocks == 6
    found = {variant.variant: variant.draft for variant in report.benchmarks.variants}
    assert list(found) == ["original", "pruned"]
    for figures in found.values():
        assert (figures.tokens, figures.prompts, figures.max_new_tokens, figures.runs) == (3, 2, 12, 1)
        assert (figures.equal, figures.differences) == (2, [])
        assert figures.tokens_per_pass >= 1
    assert found["original"].acceptance > 0, "the first blocks of the target say what it says now and then"
    assert report.verdict is Verdict.PASSED
    page = unescape(html.render(report))
    text = markdown.render(report)
    for line in ("assistant_model=draft", '"method": "draft_model"', "-n-max 3", "num_assistant_tokens = 3"):
        assert line in page
        assert line in text
    assert "Speculative draft" in page


def test_the_check_tells_what_the_target_is_and_what_to_expect(root: Path) -> None:
    run = job(root)
    seen = {row.name: row.seen for row in run.run("check").checks}["target model"]
    assert seen.startswith("llama, 6 blocks, ")
    assert ", the same 259 tokens. By the weights that are read, a token of the draft costs " in seen
    assert not [event for event in run.events if event.type == "log" and event.level == "warning"]


def test_a_draft_of_its_own_original_is_told_not_to_pay(root: Path) -> None:
    run = job(root, target_model={"source": "local", "path": "tiny"})
    seen = {row.name: row.seen for row in run.run("check").checks}["target model"]
    assert "The target is the very model that the draft is cut from, so it is cheaper only by what is cut. " in seen
    assert "This draft is not expected to pay. " in seen
    (warning,) = [event for event in run.events if event.type == "log" and event.level == "warning"]
    assert "not expected to pay" in warning.message


LEARNT: dict[str, Any] = {
    "kind": "distill",
    "train": "all",
    "heal": False,
    "tokens": 32,
    "samples": 96,  # each once, so that none is learnt by heart
    "batch_size": 4,
    "micro_batch_size": 4,
    "epochs": 1,
    "learning_rate": 0.005,
    "top_k": 259,
    "text": {"source": "self"},
}


def recovered(root: Path, **changes: Any) -> Job:
    run = job(root, recovery={**LEARNT, **changes})
    for name in ("check", "prune", "recover"):
        run.run(name)
    return run


@torch.no_grad()
def sharpen(folder: Path, rows: int = 259) -> None:
    """A target that is much surer of its tokens than the draft's own original: something that can be learnt."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    model.model.norm.weight.mul_(4)
    if rows != 259:
        model.resize_token_embeddings(rows, mean_resizing=False)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder)


@torch.no_grad()
def divergence(target: Path, draft: Path) -> float:
    """KL(target || draft) on any text, in nats."""
    ids = torch.randint(3, 250, (16, 24), generator=torch.Generator().manual_seed(5))

    def predicted(path: Path) -> torch.Tensor:
        model: Any = AutoModelForCausalLM.from_pretrained(path)
        return torch.as_tensor(model(input_ids=ids).logits[..., :259].log_softmax(-1))

    theirs, ours = predicted(target), predicted(draft)
    return float((theirs.exp() * (theirs - ours)).sum(-1).mean())


@pytest.mark.parametrize("rows", [259, 260])
def test_a_draft_learns_what_its_target_predicts_and_not_what_its_original_does(root: Path, rows: int) -> None:
    sharpen(root / "large", rows)
    run = recovered(root)
    done, pruned = run.results["recover"], run.folders["prune"] / "checkpoint"
    from_target, from_original = (divergence(root / name, pruned) for name in ("large", "tiny"))
    assert from_original < from_target / 4
    assert done.curve[0].loss == pytest.approx(from_target, rel=0.35), "at first it is as far away as it was"
    assert done.curve[-1].loss < done.curve[0].loss
    assert any("was written by the target model, large, and the predictions" in note for note in done.notes)


def test_the_text_that_is_learnt_on_is_the_targets(root: Path) -> None:
    sharpen(root / "large")
    with_target = recovered(root)
    plain = {"use": "model", "target_model": None, "gates": {}, "recovery": LEARNT, "benchmark": {"latency": None}}
    alone = Job(root, CompressionSpec.model_validate({**SPEC, **plain}), work="alone")
    for name in ("check", "prune", "recover"):
        alone.run(name)
    ours, theirs = with_target.results["recover"], alone.results["recover"]
    assert ours.text.sha256 != theirs.text.sha256
    assert theirs.curve[0].loss < ours.curve[0].loss / 2, "the original is nearer than the target"


def test_the_check_tells_whose_text_and_predictions_they_are(root: Path) -> None:
    seen = checked(root, recovery={**LEARNT, "text": {"source": "answers"}})["training text"]
    assert "tokens that the target writes, in answer to" in seen
    assert "the target's predictions on 96 samples take" in seen


def test_other_jobs_have_no_target_to_look_at(root: Path) -> None:
    changes = {"use": "model", "target_model": None, "benchmark": {"latency": None}, "gates": {}}
    assert "target model" not in checked(root, **changes)


def rewritten(folder: Path, change: Callable[[Any], None], file: str = "tokenizer.json") -> None:
    content = json.loads((folder / file).read_text())
    change(content)
    (folder / file).write_text(json.dumps(content))


def swapped(content: Any) -> None:
    vocabulary = content["model"]["vocab"]
    one, other = [token for token, number in vocabulary.items() if number in (100, 101)]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]


def with_another_end(content: Any) -> None:
    content["eos_token"] = content["bos_token"]


def with_an_added_token(content: Any) -> None:
    token = next(token for token, number in content["model"]["vocab"].items() if number == 100)
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    content["added_tokens"].append({"id": 100, "content": token, **flags})


@pytest.mark.parametrize(
    ("change", "file", "said"),
    [
        (swapped, "tokenizer.json", "the id 100 is "),
        (with_another_end, "tokenizer_config.json", "the token that ends a text has the id 2 in the model and 1 in"),
        (with_an_added_token, "tokenizer.json", "(id 100) is an added token of the target alone"),
    ],
)
def test_another_tokenizer_is_refused_in_plain_words(
    root: Path, change: Callable[[Any], None], file: str, said: str
) -> None:
    rewritten(root / "large", change, file)
    error = refused(root)
    assert error.pointer == "/target_model"
    assert error.detail.startswith("The target model has another tokenizer, so a draft's tokens would be other words")
    assert said in error.detail
    assert "same family" in error.expected


def test_rows_beyond_the_vocabulary_are_padding(root: Path, tiny_checkpoint: Callable[..., Path]) -> None:
    shutil.rmtree(root / "large")
    tiny_checkpoint("large", num_hidden_layers=6, vocab_size=320)
    assert "embeddings of 259 and 320 rows, padded" in checked(root)["target model"]
    run = job(root)
    for name in kinds_of(run.spec):
        run.run(name)
    measured = run.results["benchmark"]
    assert all(variant.draft.equal == 2 for variant in measured.variants)
    assert any("have 259 and 320 rows" in note for note in measured.notes)


def test_a_token_without_a_row_is_refused(root: Path, tiny_checkpoint: Callable[..., Path]) -> None:
    shutil.rmtree(root / "large")
    tiny_checkpoint("large", num_hidden_layers=6, vocab_size=200)
    assert "has tokens up to the id 258, for which the smaller of the two has no row" in refused(root).detail


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"target_model": {"source": "local", "path": "none"}}, "/target_model/path"),
        ({"benchmark": {**SPEC["benchmark"], "draft": {"max_new_tokens": 300}}}, "/benchmark/draft/max_new_tokens"),
    ],
    ids=["no such model", "too long"],
)
def test_what_the_target_cannot_give_is_refused_at_its_field(root: Path, changes: Any, pointer: str) -> None:
    assert refused(root, **changes).pointer == pointer


def test_a_target_without_a_tokenizer_is_told_at_the_target(root: Path) -> None:
    for file in root.glob("large/*token*"):
        file.unlink()
    assert refused(root).pointer == "/target_model"


def test_a_target_that_has_changed_since_the_check_is_not_used(root: Path) -> None:
    run = job(root)
    run.run("check")
    run.run("prune")
    rewritten(root / "large", lambda config: config.update(rms_norm_eps=0.1), "config.json")
    with pytest.raises(StageFailed, match="large has changed since this job began"):
        run.run("benchmark")


def notes(figures: DraftFigures, dtype: torch.dtype = torch.float32) -> list[str]:
    machine = Machine(torch.device("cpu"), dtype, 1, 0)
    return benchmark_draft._differences("pruned", figures, machine) + benchmark_draft._apart("pruned", figures)


def test_a_text_that_is_not_the_targets_is_told_with_its_numerics() -> None:
    near = DraftDifference(prompt=1, token=36, gap=0.004, rounding=True)
    figures = draft_figures().model_copy(update={"equal": 7, "differences": [near]})
    (note,) = notes(figures, torch.bfloat16)
    assert "1 of 8 prompts were continued otherwise than by the target alone: prompt 2 at token 37" in note
    assert "0.400 % of the largest logit" in note
    assert "rounding: a pass over 6 tokens adds up in another order" in note
    assert "in bfloat16" in note
    far = near.model_copy(update={"gap": 0.4, "rounding": False})
    (note,) = notes(figures.model_copy(update={"differences": [near, far]}))
    assert "more than rounding in float32 explains" in note


def test_where_formula_and_measurement_part_the_cost_of_the_verification_is_told() -> None:
    figures = draft_figures()
    assert notes(figures) == [], "the formula holds"
    dear = figures.verification.model_copy(update={"median": 2.5})
    (note,) = notes(figures.model_copy(update={"verification": dear}))
    assert "here it costs 2.50 times as much, with which the formula gives 1.71×" in note
