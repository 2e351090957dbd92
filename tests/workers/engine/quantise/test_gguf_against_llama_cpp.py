"""llama.cpp is the judge of what is written: it gets the model's own logits from the file.

Skipped where the package `xllamacpp` is not installed: `pip install xllamacpp` brings it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from secateur.contract.gguf_kinds import FILE_KINDS
from tests.fixtures.gguf_models import tiny_model
from tests.fixtures.llama_cpp import Verdict, ask
from tests.workers.engine.quantise.test_gguf_config import IDS, SAID, make
from tests.workers.engine.quantise.test_gguf_export import byte_level
from tests.workers.engine.quantise.test_gguf_like import VARIATIONS, all_changed, as_file, imported
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.gguf_file import read_gguf_header
from workers.engine.checkpoints.gguf_import import import_gguf
from workers.engine.model.loading import load_model
from workers.engine.pruning.gguf_depth import kept_keys
from workers.engine.pruning.sub_block import prune_sub_block
from workers.engine.quantise.gguf_export import export_gguf
from workers.engine.quantise.gguf_like import export_like

pytest.importorskip("xllamacpp")
pytestmark = pytest.mark.llama_cpp


def kl_of(verdict: Verdict, model: Any, prompts: list[list[int]]) -> list[float]:
    """KL divergence of the model's next tokens from llama.cpp's, after each prompt, ascending."""
    found = []
    for prompt, logs in zip(prompts, verdict.logs, strict=True):
        if logs is not None:
            with torch.no_grad():
                own = model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)[sorted(logs)]
            theirs = torch.tensor([logs[token] for token in sorted(logs)])
            found.append(float((theirs.exp() * (theirs - own)).sum()))
    return sorted(found)


PROMPTS: list[list[int]] = [row[:size].tolist() for row in IDS for size in (24, 17, 9, 4)]


def same_logits(model: Any, file: Path, folder: Path) -> None:
    """llama.cpp's next tokens after several prompts are the model's own."""
    verdict = ask(file, folder, prompts=PROMPTS, vocabulary=model.config.vocab_size)
    assert not isinstance(verdict, str), verdict
    found = kl_of(verdict, model, PROMPTS)
    assert found[len(found) // 2] < 1e-3, found  # rounding; another model: 0.01 to 3


@pytest.mark.parametrize("name", SAID)
def test_logits(name: str, tmp_path: Path) -> None:
    model = make(name, tmp_path / "model")
    file = tmp_path / "out" / "model.gguf"
    export_gguf(Checkpoint.open(tmp_path / "model"), file, kind="F16")
    same_logits(model, file, tmp_path)


@pytest.mark.parametrize("name", ["biases of attention", "yarn", "llama3"])
@pytest.mark.parametrize("blocks", [[1], [2], [1, 2]])
def test_logits_without_attentions(name: str, blocks: list[int], tmp_path: Path) -> None:
    make(name, tmp_path / "model")
    drop = [f"{block}.attention" for block in blocks]
    prune_sub_block(Checkpoint.open(tmp_path / "model"), tmp_path / "pruned", drop=drop)
    checkpoint = Checkpoint.open(tmp_path / "pruned")
    export_gguf(checkpoint, tmp_path / "out" / "model.gguf", kind="F16")
    model = load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    same_logits(model, tmp_path / "out" / "model.gguf", tmp_path)


@pytest.mark.parametrize("name", VARIATIONS)
def test_logits_of_a_recovered_model_in_the_form_that_it_came_in(name: str, tmp_path: Path) -> None:
    source, drop = as_file(name, tmp_path / "model.gguf")
    checkpoint = all_changed(imported(source, tmp_path, drop=drop))
    kept = [block for block in range(number_of_blocks(source)) if block not in drop]
    target = tmp_path / "out" / "model.gguf"
    export_like(checkpoint, target, source=source, kept=kept, keys=kept_keys(source, kept))
    same_logits(load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32), target, tmp_path)


def number_of_blocks(file: Path) -> int:
    found = read_gguf_header(file).number("block_count")
    assert found is not None
    return found


@pytest.mark.parametrize("kind", [kind for kind in FILE_KINDS if "K" in kind])
def test_logits_of_k_types(kind: str, tmp_path: Path) -> None:
    """llama.cpp unpacks the weights as this project does; it also rounds what goes into a matrix to 8 bits."""
    model: Any = tiny_model("llama", hidden_size=256, intermediate_size=512, num_hidden_layers=4)
    with torch.no_grad():
        for matrix in (parameter for parameter in model.parameters() if parameter.dim() == 2):
            matrix.mul_(0.4)  # so that the wide model does not make much of little
    model.save_pretrained(tmp_path / "model")
    byte_level(begins=False).save_pretrained(tmp_path / "model")
    file = tmp_path / "out" / "model.gguf"
    export_gguf(Checkpoint.open(tmp_path / "model"), file, kind=kind)
    import_gguf(file, tmp_path / "back")
    back: Any = load_model(Checkpoint.open(tmp_path / "back"), device=torch.device("cpu"), dtype=torch.float32)
    verdict = ask(file, tmp_path, prompts=PROMPTS, vocabulary=model.config.vocab_size)
    assert not isinstance(verdict, str), verdict
    of_file, of_model = kl_of(verdict, back, PROMPTS), kl_of(verdict, model, PROMPTS)
    middle = len(of_file) // 2
    assert of_file[middle] < 0.03, of_file
    assert of_file[middle] < of_model[middle] / 5, (of_file, of_model)
