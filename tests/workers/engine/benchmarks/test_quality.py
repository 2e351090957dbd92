"""Perplexity, fidelity and samples against plain transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel

from secateur.contract.errors import InvalidInput, StageFailed
from secateur.contract.measurements import Sample
from secateur.contract.results import TextInfo
from tests.workers.conftest import byte_tokenizer
from tests.workers.engine.text.test_tokenizing import LOOKS_BACK, with_pattern
from workers.engine.benchmarks.fidelity import divergence, fidelity, kl_rows
from workers.engine.benchmarks.perplexity import perplexity, protocol_of, window_losses
from workers.engine.benchmarks.samples import repetition, sample_figures, write_samples
from workers.engine.benchmarks.windows import Windows
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model import batches
from workers.engine.model import block_model as blocks
from workers.engine.model.block_model import BlockModel
from workers.engine.model.loading import load_model
from workers.engine.text import tokenizing
from workers.engine.text.beginning import cut
from workers.engine.text.prompts import Prompt, encoded_prompts

TEXT = TextInfo(description="noise", source="local", identity="noise", samples=9, tokens=14, sha256="0" * 64)


@pytest.fixture(params=[False, True], ids=["whole", "in pieces"])
def _pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        monkeypatch.setattr(batches, "TOKENS_AT_ONCE", 40)
        monkeypatch.setattr(blocks, "CPU_LOGITS_BYTES", 4 * 96 * 5)  # five rows of logits


@pytest.mark.usefixtures("_pieces")
def test_perplexity_is_that_of_plain_transformers(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor], family: str
) -> None:
    model, ids = make_model(family), make_ids(9, 14)
    window = Windows(ids, TEXT, "p")
    found = perplexity(window_losses(BlockModel.from_model(model), window), window)
    with torch.no_grad():
        logits = model(ids).logits.double()
    expected = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).exp().item()
    assert found.value == pytest.approx(expected, rel=1e-5)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high


@pytest.mark.usefixtures("_pieces")
def test_fidelity_is_that_of_plain_transformers(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    original, variant, ids = make_model(), make_model(seed=1, num_hidden_layers=3), make_ids(9, 14)
    with torch.no_grad():
        p, q = (model(ids).logits[:, :-1].double().log_softmax(-1) for model in (original, variant))
    window = Windows(ids, TEXT, "p")
    found = fidelity(divergence(BlockModel.from_model(original), BlockModel.from_model(variant), window), window)
    assert found.kl == pytest.approx((p.exp() * (p - q)).sum(-1).mean().item(), rel=1e-5)
    assert found.top1_agreement == pytest.approx((p.argmax(-1) == q.argmax(-1)).double().mean().item())
    assert found.kl_low is not None
    assert found.kl_high is not None
    assert found.kl_low < found.kl < found.kl_high
    assert found.top1_agreement_low is not None
    assert found.top1_agreement_high is not None
    assert 0 <= found.top1_agreement_low < found.top1_agreement < found.top1_agreement_high <= 1


def test_a_ratio_of_perplexities_is_of_the_same_windows(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    window = Windows(make_ids(9, 14), TEXT, "p")
    before, after = (
        window_losses(BlockModel.from_model(make_model(**own)), window) for own in ({}, {"num_hidden_layers": 3})
    )
    original, found = perplexity(before, window), perplexity(after, window, original=before)
    assert (original.ratio, original.ratio_low, original.ratio_high) == (None, None, None)
    assert found.ratio is not None
    assert found.ratio == pytest.approx(found.value / original.value)
    assert found.ratio_low is not None
    assert found.ratio_high is not None
    assert found.ratio_low < found.ratio < found.ratio_high
    shifted = perplexity(before + 0.25, window, original=before)  # by as much on every window: there is no doubt
    assert (shifted.ratio, shifted.ratio_low, shifted.ratio_high) == pytest.approx((1.2840254,) * 3)


def test_a_single_window_has_no_interval(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    window = Windows(make_ids(1, 14), TEXT, "p")
    first, second = BlockModel.from_model(make_model()), BlockModel.from_model(make_model(seed=1))
    losses = window_losses(second, window)
    found = perplexity(losses, window, original=window_losses(first, window))
    assert (found.low, found.high, found.ratio_low, found.ratio_high) == (None,) * 4
    distance = fidelity(divergence(first, second, window), window)
    assert (distance.kl_low, distance.kl_high, distance.top1_agreement_low) == (None,) * 3


def test_a_model_agrees_with_itself(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    model = BlockModel.from_model(make_model())
    window = Windows(make_ids(4, 10), TEXT, "p")
    found = fidelity(divergence(model, model, window), window)
    assert (found.kl, found.top1_agreement) == (0.0, 1.0)


def test_divergence_of_known_distributions() -> None:
    left = torch.tensor([[0.5, 0.5, 1e-30], [0.9, 0.1, 1e-30]]).log()
    right = torch.tensor([[0.25, 0.75, 1e-30], [0.9, 0.1, 1e-30]]).log()
    expected = 0.5 * torch.tensor(2.0).log() + 0.5 * torch.tensor(2 / 3).log()
    assert torch.allclose(kl_rows(left, right), torch.stack([expected, torch.tensor(0.0)]), atol=1e-6)


def test_figures_that_are_not_finite_are_no_figures(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    broken = make_model(seed=2)
    with torch.no_grad():
        next(reversed(list(broken.parameters()))).fill_(float("inf"))
    model = BlockModel.from_model(broken)
    window = Windows(make_ids(), TEXT, "p")
    with pytest.raises(StageFailed, match="loss on noise is not finite"):
        perplexity(window_losses(model, window), window)
    with pytest.raises(StageFailed, match="KL divergence on noise is not finite"):
        fidelity(divergence(BlockModel.from_model(make_model()), model, window), window)


@pytest.mark.usefixtures("_pieces")
def test_with_a_stride_every_token_counts_once_with_its_context(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    original, variant, text = make_model(), make_model(seed=1), make_ids(1, 36)
    ids = cut(text[0].int().numpy(), torch.arange(0, 25, 4), tokens=12, bos=None).long()
    assert ids.shape == (7, 12)
    window = Windows(ids, TEXT, "p", overlap=8)
    assert int(window.counted().sum()) == 35  # all tokens of the text but the first
    nll, kl = torch.empty(35, dtype=torch.float64), torch.empty(35, dtype=torch.float64)
    with torch.no_grad():
        for start in range(0, 25, 4):  # later windows do not overwrite what earlier ones predicted
            piece = text[:, start : start + 12]
            p, q = (model(piece).logits[0, :-1].double().log_softmax(-1) for model in (original, variant))
            new = slice(0, 11) if start == 0 else slice(7, 11)
            where = slice(start + new.start, start + 11)
            nll[where] = F.nll_loss(q, piece[0, 1:], reduction="none")[new]
            kl[where] = (p.exp() * (p - q)).sum(-1)[new]
    first, second = BlockModel.from_model(original), BlockModel.from_model(variant)
    found = perplexity(window_losses(second, window), window)
    assert found.value == pytest.approx(nll.mean().exp().item(), rel=1e-5)
    assert fidelity(divergence(first, second, window), window).kl == pytest.approx(kl.mean().item(), rel=1e-5)


def test_a_first_token_before_each_window_is_context_and_predicts_the_first(make_ids: Callable[..., Tensor]) -> None:
    text = make_ids(1, 18)[0].int().numpy()
    ids = cut(text, torch.arange(0, 18, 6), tokens=7, bos=1)
    assert ids.shape == (3, 7)
    assert (ids[:, 0] == 1).all()
    assert Windows(ids, TEXT, "p").counted().shape == (3, 6)
    strided = Windows(cut(text, torch.arange(0, 13, 2), tokens=7, bos=1), TEXT, "p", overlap=5)
    assert int(strided.counted().sum()) == 18  # every token of the text, the very first one too


def test_the_protocol_names_window_stride_and_first_token() -> None:
    assert protocol_of(tokens=128, bos="first") == (
        "windows of 128 tokens, no overlap, 127 predicted in each, BOS on the first"
    )
    assert protocol_of(tokens=2048, bos="none", overlap=1536) == (
        "windows of 2048 tokens, stride 512, each token predicted once, BOS on none"
    )


@pytest.fixture
def with_tokenizer(tiny_checkpoint: Callable[..., Path]) -> tuple[PreTrainedModel, Any]:
    path = tiny_checkpoint(num_hidden_layers=2)
    return load_model(
        Checkpoint.open(path), device=torch.device("cpu"), dtype=torch.float32
    ), AutoTokenizer.from_pretrained(path)


def written(model: Any, tokenizer: Any, texts: list[str], **options: Any) -> list[Sample]:
    """Samples after prompts as plain text."""
    prompts = encoded_prompts(tokenizer, [Prompt.of(text) for text in texts], chat=False, rows=259, room=None)
    return write_samples(model, tokenizer, prompts, **options)


def test_greedy_samples_are_those_of_generate(with_tokenizer: tuple[Any, Any]) -> None:
    model, tokenizer = with_tokenizer
    prompts = ["The river", "A stone fell"]
    found = written(model, tokenizer, prompts, max_new_tokens=12, temperature=0, seed=0)
    for prompt, sample in zip(prompts, found, strict=True):
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        expected = model.generate(input_ids=ids, do_sample=False, max_new_tokens=12)[0, ids.shape[1] :]
        assert sample.prompt == prompt
        assert sample.text == tokenizer.decode(expected, skip_special_tokens=True)
        new = [token for token in expected.tolist() if token != tokenizer.eos_token_id]
        assert (sample.tokens, sample.repetition, sample.chat) == (len(new), repetition(new), False)


def test_drawn_samples_repeat_by_their_seed(with_tokenizer: tuple[Any, Any]) -> None:
    model, tokenizer = with_tokenizer

    def draw(seed: int) -> list[str]:
        found = written(model, tokenizer, ["The", "The"], max_new_tokens=20, temperature=1, seed=seed)
        return [sample.text for sample in found]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert len(set(draw(1))) == 2


def test_an_empty_prompt_without_a_first_token_is_left_empty(with_tokenizer: tuple[Any, Any]) -> None:
    model, tokenizer = with_tokenizer
    (sample,) = written(model, tokenizer, [""], max_new_tokens=4, temperature=0, seed=0)
    assert (sample.text, sample.tokens, sample.repetition) == ("", 0, None)


def test_a_prompt_that_the_tokenizer_takes_for_ever_for_is_refused(
    with_tokenizer: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizing, "ENCODE_SECONDS", 1.5)
    monkeypatch.setattr(tokenizing, "CHARACTERS_A_SECOND", 1e9)
    with pytest.raises(InvalidInput, match=r"on 240,000 characters it took more than 1.5") as caught:
        written(
            with_tokenizer[0],
            with_pattern(LOOKS_BACK),
            ["The", "plain text, " * 20_000],
            max_new_tokens=4,
            temperature=0,
            seed=0,
        )
    assert caught.value.errors[0].pointer == "text"


def test_end_tokens_that_are_no_ids_end_nothing(make_model: Callable[..., PreTrainedModel], tmp_path: Path) -> None:
    model: Any = make_model("llama", vocab_size=259)
    byte_tokenizer().save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    texts = set()
    for ends in (None, "x", ["x", None], 1.5):
        model.generation_config.eos_token_id = ends
        (sample,) = written(model, tokenizer, ["The"], max_new_tokens=6, temperature=1, seed=0)
        texts.add(sample.text)
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("tokens", "share"),
    [
        ([], None),
        ([1, 2, 3], None),
        ([1, 2, 3, 4], 0),
        ([1, 2, 3, 4, 5, 6], 0),
        ([1] * 8, 4 / 5),  # five 4-grams, one of them new
        ([1, 2] * 4, 3 / 5),
        ([1, 2, 3, 4, 9, 1, 2, 3, 4], 1 / 6),
    ],
)
def test_repetition_is_the_share_of_4_grams_that_stood_before(tokens: list[int], share: float | None) -> None:
    assert repetition(tokens) == (None if share is None else pytest.approx(share))


def test_samples_in_figures() -> None:
    def sample(tokens: int, share: float | None) -> Sample:
        return Sample(prompt="", text="", tokens=tokens, repetition=share, chat=True)

    found = sample_figures([sample(10, 0.5), sample(3, None), sample(20, 0.1)])
    assert found is not None
    assert (found.samples, found.chat) == (3, True)
    assert found.tokens == pytest.approx(11)
    assert found.repetition == pytest.approx(0.3)  # of the two that have 4-grams
    assert found.tokens_low is not None
    assert found.tokens_high is not None
    assert found.tokens_low < 11 < found.tokens_high
    single = sample_figures([sample(3, None)])
    assert single is not None
    assert (single.tokens, single.tokens_low, single.repetition) == (3, None, None)
    assert sample_figures([]) is None
    assert sample_figures([Sample(prompt="", text="of an older version")]) is None
