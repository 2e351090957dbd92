"""A checkpoint with fewer tokens, loaded again by transformers: the same logits and texts, and ids that are right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from secateur.contract.errors import InvalidInput, UnsupportedModel
from tests.fixtures.tokenizers import TOKENIZERS, WORDS, write_model
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.pruning.vocabulary import VocabularyPlan, plan_vocabulary, prune_vocabulary

KEPT = 380


def _plan(folder: Path, tokens: int = KEPT) -> tuple[Checkpoint, VocabularyPlan]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    counts = np.bincount(tokenizer(WORDS, add_special_tokens=False)["input_ids"], minlength=1)
    checkpoint = Checkpoint.open(folder)
    return checkpoint, plan_vocabulary(checkpoint, counts, tokens=tokens)


@pytest.mark.parametrize("beyond", [0, 9])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["byte level", "byte fallback"])
def test_the_model_is_the_same_on_the_tokens_that_stay(kind: str, tied: bool, beyond: int, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", TOKENIZERS[kind](), tie_word_embeddings=tied, beyond=beyond)
    source, plan = _plan(folder)
    done = prune_vocabulary(source, tmp_path / "pruned", plan=plan, probes=[WORDS])
    before, after = (AutoModelForCausalLM.from_pretrained(path) for path in (folder, tmp_path / "pruned"))
    assert after.get_input_embeddings().weight.shape == (KEPT, 32)
    assert after.lm_head.weight.shape == (KEPT, 32)
    assert done.parameters_before - done.parameters_after == (plan.rows - KEPT) * 32 * (1 if tied else 2)
    assert done.parameters_after == sum(parameter.numel() for parameter in after.parameters())
    assert done.bytes_after == Checkpoint.open(tmp_path / "pruned").total_bytes
    new = torch.arange(KEPT)[None, :200]
    old = torch.tensor(plan.kept)[new]
    with torch.no_grad():
        theirs, ours = before(old).logits[..., list(plan.kept)], after(new).logits
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_ids_are_told_right_wherever_they_stand(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", TOKENIZERS["byte level"]())
    generation = json.loads((folder / "generation_config.json").read_text())
    unused = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids("<tool>")
    (folder / "generation_config.json").write_text(json.dumps({**generation, "suppress_tokens": [unused, 3]}))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    listed = {str(unused): {"content": "<tool>", "normalized": False, "special": False}}
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "added_tokens_decoder": listed}))
    (folder / "added_tokens.json").write_text(json.dumps({"<tool>": unused}))
    for name in ("vocab.json", "merges.txt", "tokenizer.model"):
        (folder / name).write_text("{}")
    (folder / "chat_template.jinja").write_text("{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}")
    source, plan = _plan(folder)
    prune_vocabulary(source, tmp_path / "pruned", plan=plan)
    pruned = tmp_path / "pruned"
    tokenizer = AutoTokenizer.from_pretrained(pruned)
    tool = tokenizer.convert_tokens_to_ids("<tool>")
    assert tool == KEPT - 1 != unused
    config, written = AutoConfig.from_pretrained(pruned), GenerationConfig.from_pretrained(pruned)
    assert (config.vocab_size, config.bos_token_id, config.eos_token_id) == (KEPT, 1, 2)
    assert written.eos_token_id == [2, 3]
    assert written.suppress_tokens == [tool, 3]
    assert json.loads((pruned / "added_tokens.json").read_text()) == {"<tool>": tool}
    assert list(json.loads((pruned / "tokenizer_config.json").read_text())["added_tokens_decoder"]) == [str(tool)]
    assert not any((pruned / name).exists() for name in ("vocab.json", "merges.txt", "tokenizer.model"))
    assert (pruned / "chat_template.jinja").read_text() == (folder / "chat_template.jinja").read_text()
    assert tokenizer.apply_chat_template([{"role": "user", "content": "the <tool>"}], return_dict=False)[0] == 3


def test_what_is_put_around_a_text_keeps_its_place(tmp_path: Path) -> None:
    source, plan = _plan(write_model(tmp_path / "model", TOKENIZERS["byte fallback"]()))
    prune_vocabulary(source, tmp_path / "pruned", plan=plan, probes=[WORDS, "🙂"])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "pruned")
    ids = tokenizer("the river")["input_ids"]
    assert tokenizer.decode(ids) == "<s>the river"
    assert plan.kept[ids[0]] == 1


def _rewrite(folder: Path, **model: Any) -> None:
    file = folder / "tokenizer.json"
    written = json.loads(file.read_text())
    file.write_text(json.dumps({**written, "model": {**written["model"], **model}}))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer.json"),
        (lambda folder: _rewrite(folder, type="WordPiece"), "of the kind WordPiece"),
        (lambda folder: _rewrite(folder, end_of_word_suffix="</w>"), "end_of_word_suffix"),
        (
            lambda folder: (folder / "tokenizer_config.json").write_text(
                '{"auto_map": {"AutoTokenizer": ["a.B", null]}}'
            ),
            "code of its own",
        ),
        (
            lambda folder: _rewrite(folder, vocab={**_vocabulary(folder), "beyond": 5000}),
            "beyond the 415",
        ),
    ],
)
def test_a_tokenizer_that_cannot_be_rewritten_is_refused_with_the_reason(
    change: Any, reason: str, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "model", TOKENIZERS["byte level"]())
    change(folder)
    with pytest.raises(UnsupportedModel, match=reason) as caught:
        plan_vocabulary(Checkpoint.open(folder), np.array([1]), tokens=KEPT)
    assert [error.pointer for error in caught.value.errors] == ["kind"]


def _vocabulary(folder: Path) -> dict[str, int]:
    return dict(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])


@pytest.mark.parametrize(("tokens", "expected"), [(415, "at most 414"), (424, "at most 414"), (200, "at least 261")])
def test_all_tokens_and_too_few_are_refused(tokens: int, expected: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", TOKENIZERS["byte level"](), beyond=20)
    with pytest.raises(InvalidInput) as caught:
        _plan(folder, tokens)
    assert [(error.pointer, error.expected) for error in caught.value.errors] == [("tokens", expected)]


def test_a_tokenizer_that_is_read_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, plan = _plan(write_model(tmp_path / "model", TOKENIZERS["byte level"]()))
    monkeypatch.setattr("workers.engine.pruning.tokenizer_rewrite._is_left", lambda merge, vocab: False)
    prune_vocabulary(source, tmp_path / "longer", plan=plan, probes=["the river"])  # in more tokens, and no other text
    monkeypatch.setattr(
        "workers.engine.pruning.vocabulary.write_side_files",
        lambda source, folder, plan: (folder / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes()),
    )
    with pytest.raises(UnsupportedModel, match="other numbers"):
        prune_vocabulary(source, tmp_path / "pruned", plan=plan)
    assert not (tmp_path / "pruned").exists()
