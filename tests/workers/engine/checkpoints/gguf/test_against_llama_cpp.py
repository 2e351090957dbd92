"""llama.cpp is the judge: what an import leaves has its logits and its tokens, for every family and every cut.

Skipped where the package `xllamacpp` is not installed: `pip install xllamacpp` brings it.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tests.fixtures.gguf_models import WRITTEN, byte_tokenizer, byte_tokens, tensors_of, tiny_model, write_model
from tests.fixtures.llama_cpp import ask
from tests.workers.engine.checkpoints.gguf.test_families import divisors, scaled
from tests.workers.engine.checkpoints.gguf.test_tokenizer import sentencepiece
from workers.engine.checkpoints.gguf.cuts import CUTS
from workers.engine.checkpoints.gguf_import import import_gguf

pytest.importorskip("xllamacpp")
pytestmark = pytest.mark.llama_cpp

PROMPT = torch.randint(3, 259, (24,), generator=torch.Generator().manual_seed(0)).tolist()
TEXTS = [
    "hello 1234, he's 12\n\nFor 123 hers:  two 1",
    "  leading,  and   trailing  ",
    "It's WE'LL go ... !!  (a_b) == [1+22] -> 'x' \t\n\n\n end\r\n",
    "\u00dcn\u00efcode \u00bd \u0663 \u4f60\u597d\u4e16\u754c \U0001f642\U0001f642 na\u00efve caf\u00e9s",
    "CamelCaseHTTPServer/path?x=1&y=%20 def f(x):\n    return 3.14159e-10",
    "<s>he</s> <unk> ll",
    "a\n b\n\n  c 1 2  33   444",
]


def same_logits(file: Path, folder: Path) -> None:
    import_gguf(file, folder / "checkpoint")
    model: Any = AutoModelForCausalLM.from_pretrained(folder / "checkpoint")
    prompts = [PROMPT[:size] for size in (24, 17, 9, 4)]
    verdict = ask(file, folder, prompts=prompts, vocabulary=model.config.vocab_size)
    assert not isinstance(verdict, str), verdict
    compared = 0
    for prompt, logs in zip(prompts, verdict.logs, strict=True):
        if logs is None:
            continue
        with torch.no_grad():
            own = model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
        theirs = torch.tensor([logs[token] for token in sorted(logs)])
        mine = own[sorted(logs)]
        kl = float((theirs.exp() * (theirs - mine)).sum())
        assert abs(kl) < 1e-3, f"of a spread of {float(own.std())}"  # llama.cpp rounds a little; another model: 0.5
        compared += 1
    assert compared


@pytest.mark.parametrize("model_type", sorted(WRITTEN))
def test_logits_of_every_family(model_type: str, tmp_path: Path) -> None:
    model = tiny_model(model_type, tie_word_embeddings=bool(WRITTEN[model_type].tied))
    pre = "qwen2" if model_type == "qwen2" else "gpt-2"
    file = write_model(tmp_path / "model.gguf", model, tokenizer=byte_tokenizer(300, pre=pre))
    same_logits(file, tmp_path)


LLAMA3 = scaled("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)


def rope_freqs() -> tuple[PreTrainedModel, dict[str, Any]]:
    model = tiny_model("llama", rope_parameters=LLAMA3, head_dim=16)
    return model, {"tensors": {**tensors_of(model), "rope_freqs.weight": divisors(model)}}


@pytest.mark.parametrize(
    "name", ["linear", "no type", "yarn", "yarn with a factor", "rope_freqs", "biases", "gemma3", "none", "phi3 window"]
)
def test_logits_of_what_sets_models_apart(name: str, tmp_path: Path) -> None:
    more: dict[str, Any] = {}
    yarn = {"type": "yarn", "factor": 4.0, "original_context_length": 16}
    model = tiny_model("llama")
    if name == "rope_freqs":
        model, more = rope_freqs()
    elif name == "biases":
        model = tiny_model("llama", attention_bias=True, mlp_bias=True)
    elif name == "gemma3":
        model = tiny_model("gemma3_text", tie_word_embeddings=True, num_hidden_layers=8, final_logit_softcapping=None)
        more = {"keys": {"rope.scaling.type": "linear", "rope.scaling.factor": 8.0}}
    elif name == "phi3 window":  # llama.cpp has none, so it is one that does not matter
        model = tiny_model("phi3", sliding_window=60)
    else:
        kinds: dict[str, dict[str, Any]] = {
            "linear": {"type": "linear", "factor": 4.0},
            "no type": {"factor": 4.0},
            "none": {"type": "none", "factor": 4.0},
            "yarn": yarn,
            "yarn with a factor": {**yarn, "attn_factor": 0.7},
        }
        more = {"keys": {f"rope.scaling.{key}": value for key, value in kinds[name].items()}}
    same_logits(write_model(tmp_path / "model.gguf", model, **more), tmp_path)


def merged_vocabulary() -> dict[str, Any]:
    """A vocabulary with merges across everything that a cut may separate, so that cuts show in the tokens."""
    letters = byte_tokens(300)[3:259]
    seen: dict[str, None] = {}
    spell = bytes_to_unicode()  # type: ignore[no-untyped-call]  # no annotations upstream
    merges: list[str] = []
    for text in TEXTS:
        spelt = [spell[byte] for byte in text.encode()]
        for left, right in pairwise(spelt):
            if left + right not in seen:
                seen[left + right] = None
                merges.append(f"{left} {right}")
    tokens = ["<unk>", "<s>", "</s>", *letters, *seen]
    return {
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [2, 3, 3, *[1] * (len(tokens) - 3)],
        "tokenizer.ggml.merges": merges,
    }


@pytest.mark.parametrize("pre", sorted(CUTS))
def test_tokens_of_every_cut(pre: str, tmp_path: Path) -> None:
    keys = {**byte_tokenizer(300, pre=pre), **merged_vocabulary()}
    model = tiny_model("llama", vocab_size=len(keys["tokenizer.ggml.tokens"]))
    same_tokens(write_model(tmp_path / "model.gguf", model, tokenizer=keys), tmp_path)


@pytest.mark.parametrize("flags", [{}, {"add_space_prefix": False}, {"add_bos_token": False, "add_eos_token": True}])
def test_tokens_of_sentencepiece(flags: dict[str, Any], tmp_path: Path) -> None:
    file = write_model(tmp_path / "model.gguf", tiny_model("llama"), tokenizer=sentencepiece(**flags))
    same_tokens(file, tmp_path, [*TEXTS, "hello  hello   hellolo", "hell    o<s>hello</s> he"])


def same_tokens(file: Path, folder: Path, texts: list[str] = TEXTS) -> None:
    import_gguf(file, folder / "checkpoint")
    tokenizer: Any = AutoTokenizer.from_pretrained(folder / "checkpoint")
    verdict = ask(file, folder, texts=texts)
    assert not isinstance(verdict, str), verdict
    for text, ids in zip(texts, verdict.tokens, strict=True):
        assert tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids) == tokenizer.convert_ids_to_tokens(ids), text
