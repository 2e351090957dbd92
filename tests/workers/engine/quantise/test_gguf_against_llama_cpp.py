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
from workers.engine.quantise.gguf_export import export_gguf

pytest.importorskip("xllamacpp")
pytestmark = pytest.mark.llama_cpp


@pytest.mark.parametrize("name", SAID)
def test_logits(name: str, tmp_path: Path) -> None:
    model: Any = make(name, tmp_path / "model")
    file = tmp_path / "out" / "model.gguf"
    export_gguf(Checkpoint.open(tmp_path / "model"), file, type_name="F16")
    prompts = [row[:size].tolist() for row in IDS for size in (24, 17, 9, 4)]
    verdict = ask(file, tmp_path, prompts=prompts, vocabulary=model.config.vocab_size)
    assert not isinstance(verdict, str), verdict
    found = []
    for prompt, logs in zip(prompts, verdict.logs, strict=True):
        if logs is not None:
            with torch.no_grad():
                own = model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)[sorted(logs)]
            theirs = torch.tensor([logs[token] for token in sorted(logs)])
            found.append(float((theirs.exp() * (theirs - own)).sum()))
    assert sorted(found)[len(found) // 2] < 1e-3, found  # rounding; another model: 0.01 to 3
