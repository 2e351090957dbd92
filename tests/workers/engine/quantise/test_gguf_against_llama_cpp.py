"""llama.cpp is the judge of what is written: it gets the model's own logits from the file.

Skipped where the package `xllamacpp` is not installed: `pip install xllamacpp` brings it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fixtures.llama_cpp import ask
from tests.workers.engine.quantise.test_gguf_config import IDS, SAID, make
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.loading import load_model
from workers.engine.pruning.sub_block import prune_sub_block
from workers.engine.quantise.gguf_export import export_gguf

pytest.importorskip("xllamacpp")
pytestmark = pytest.mark.llama_cpp


def same_logits(model: Any, file: Path, folder: Path) -> None:
    """llama.cpp's next tokens after several prompts are the model's own."""
    prompts = [row[:size].tolist() for row in IDS for size in (24, 17, 9, 4)]
    verdict = ask(file, folder, prompts=prompts, vocabulary=model.config.vocab_size)
    assert not isinstance(verdict, str), verdict
    found = []
    for prompt, logs in zip(prompts, verdict.logs, strict=True):
        if logs is not None:
            with torch.no_grad():
                own = model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)[sorted(logs)]
            theirs = torch.tensor([logs[token] for token in sorted(logs)])
            found.append(float((theirs.exp() * (theirs - own)).sum()))
    assert sorted(found)[len(found) // 2] < 1e-3, found  # rounding; another model: 0.01 to 3


@pytest.mark.parametrize("name", SAID)
def test_logits(name: str, tmp_path: Path) -> None:
    model = make(name, tmp_path / "model")
    file = tmp_path / "out" / "model.gguf"
    export_gguf(Checkpoint.open(tmp_path / "model"), file, type_name="F16")
    same_logits(model, file, tmp_path)


@pytest.mark.parametrize("name", ["biases of attention", "yarn", "llama3"])
@pytest.mark.parametrize("blocks", [[1], [2], [1, 2]])
def test_logits_without_attentions(name: str, blocks: list[int], tmp_path: Path) -> None:
    make(name, tmp_path / "model")
    drop = [f"{block}.attention" for block in blocks]
    prune_sub_block(Checkpoint.open(tmp_path / "model"), tmp_path / "pruned", drop=drop)
    checkpoint = Checkpoint.open(tmp_path / "pruned")
    export_gguf(checkpoint, tmp_path / "out" / "model.gguf", type_name="F16")
    model = load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    same_logits(model, tmp_path / "out" / "model.gguf", tmp_path)
