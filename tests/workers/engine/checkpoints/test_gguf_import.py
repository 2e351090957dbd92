"""GGUF to safetensors: the checkpoint is the model that transformers loads from the file, with its tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from secateur.contract.errors import BadCheckpoint, UnsupportedModel
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.gguf_import import import_gguf

SIZES: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96, "vocab_size": 288}


@pytest.mark.thorough
@pytest.mark.parametrize("quantisation", ["F32", "Q8_0", "Q4_1"])
@pytest.mark.parametrize("tied", [True, False])
def test_equals_what_transformers_loads(
    quantisation: str,
    tied: bool,
    make_model: Callable[..., PreTrainedModel],
    write_gguf: Callable[..., Path],
    tmp_path: Path,
) -> None:
    source = make_model("llama", tie_word_embeddings=tied, **SIZES)
    file = write_gguf(tmp_path / "tiny.gguf", source, quantisation=quantisation)
    (tmp_path / "tokenizer.json").write_text("not the file's own: must not be read")
    import_gguf(file, tmp_path / "checkpoint")

    weights = tmp_path / "checkpoint" / "model.safetensors"
    assert weights.stat().st_mode & 0o777 == 0o644, "another account may read it"
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint", output_loading_info=True)
    model, info = loaded
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    (tmp_path / "tokenizer.json").unlink()
    direct: Any = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=file.name, dtype=torch.float32)
    ids = torch.randint(0, 288, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(ids).logits
        assert torch.equal(logits, direct(ids).logits)
        if quantisation == "F32":
            assert torch.equal(logits, source(ids).logits)
        else:
            assert torch.nn.functional.cosine_similarity(logits, source(ids).logits, dim=-1).min() > 0.9
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    assert ("lm_head.weight" in Checkpoint.open(tmp_path / "checkpoint").names()) != tied

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "checkpoint")
    original = AutoTokenizer.from_pretrained(tmp_path, gguf_file=file.name)
    text = "hello, <s> worlds é 12"
    assert tokenizer(text).input_ids == original(text).input_ids
    assert tokenizer.decode(tokenizer("hello").input_ids, skip_special_tokens=True) == "hello"
    assert tokenizer.chat_template == "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
    assert model.generation_config.eos_token_id == 2


def test_dtype_is_an_argument(
    make_model: Callable[..., PreTrainedModel], write_gguf: Callable[..., Path], tmp_path: Path
) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", make_model("llama", **SIZES), quantisation="Q8_0")
    import_gguf(file, tmp_path / "checkpoint", dtype=torch.bfloat16)
    checkpoint = Checkpoint.open(tmp_path / "checkpoint")
    assert {checkpoint.dtype(name) for name in checkpoint.names()} == {"BF16"}
    assert checkpoint.config["dtype"] == "bfloat16"


def test_files_that_cannot_be_imported(
    make_model: Callable[..., PreTrainedModel], write_gguf: Callable[..., Path], tmp_path: Path
) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", make_model("llama", **SIZES))
    raw = file.read_bytes()

    def damaged(data: bytes) -> Path:
        file.write_bytes(data)
        return file

    unknown = damaged(raw.replace(b"llama", b"llamb"))
    with pytest.raises(UnsupportedModel, match="architecture 'llamb'"):
        import_gguf(unknown, tmp_path / "checkpoint")
    mute = damaged(raw.replace(b"tokenizer.ggml.model", b"tokenizer.ggml.modem"))
    with pytest.raises(BadCheckpoint, match="has no tokenizer"):
        import_gguf(mute, tmp_path / "checkpoint")
    short = damaged(raw[:-100])
    with pytest.raises(BadCheckpoint, match="truncated"):
        import_gguf(short, tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint").exists()
