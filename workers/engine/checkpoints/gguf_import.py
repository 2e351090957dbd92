"""Turn a GGUF file into a safetensors checkpoint: weights dequantised, config, tokenizer and chat template with it.

The rule is that nothing is guessed: every key and every tensor of the file is used, or is known to be without effect;
every weight of the model is made of the file's tensors; what does not fit ends the import, by name. transformers' own
reader passes over what it does not know (biases, experts, scalings of the rotary embedding, cuts of text) and draws
at random what is missing, so it is not used; `gguf/families.py` says for each architecture what its keys and tensors
mean. transformers' classes, without memory for their weights, say what has to be filled, and write the checkpoint.

Dequantised values are exact in float32, so that is the default. bfloat16 halves the checkpoint, and rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from secateur.contract.errors import BadCheckpoint, UnsupportedModel
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.gguf.families import FAMILIES
from workers.engine.checkpoints.gguf.family import Family
from workers.engine.checkpoints.gguf.source import Source
from workers.engine.checkpoints.gguf.tokenizer import Read, check_reload, read_tokenizer, save_tokenizer
from workers.engine.checkpoints.gguf.weights import check_weights, empty_model, fill
from workers.engine.checkpoints.gguf_file import read_gguf_header
from workers.engine.checkpoints.own_loader import save_loader
from workers.engine.progress import Progress, no_progress


@dataclass(frozen=True, slots=True)
class Plan:
    """What the keys of a file describe, before a weight is read."""

    source: Source
    family: Family
    tokenizer: Read
    model: Any  # a transformers model without memory for its weights


def plan_import(file: Path) -> Plan:
    """Read the head of a GGUF file, and refuse what cannot be imported, as far as the head tells: in a second.

    Raises:
        BadCheckpoint: the file is broken, is one part of a split file, or lacks a key or tensor.
        UnsupportedModel: the architecture, a key, a tensor or the tokenizer has no place in transformers here.
    """
    header = read_gguf_header(file)
    source = Source(header)
    if header.values.get("split.count") is not None and header.values["split.count"].value not in (0, 1):
        raise BadCheckpoint(f"{file.name}: the file is one part of a split model; merge the parts first.")
    kind = source.raw("general.type")
    if kind not in (None, "model"):
        raise source.unsupported(f"the file holds no model, but its general.type is {kind!r}")
    family = FAMILIES.get(source.architecture)
    if family is None:
        raise UnsupportedModel(
            f"{file.name}: GGUF files of the architecture {source.architecture!r} are not imported; known are "
            f"{', '.join(sorted(FAMILIES))}. Use the model's safetensors checkpoint."
        )
    tokenizer = read_tokenizer(source)
    values = {**family.config(source), **_ids(tokenizer)}
    model = empty_model(source, values)
    check_weights(model, source, family)
    source.check_all_read()
    check_reload(source, tokenizer, model.config)
    return Plan(source, family, tokenizer, model)


def import_gguf(
    source: Path, target: Path, *, dtype: torch.dtype = torch.float32, progress: Progress = no_progress
) -> None:
    """Write the checkpoint of the GGUF file `source` into the folder `target`, which is created if need be.

    Args:
        dtype: of the weights on disk; float32 keeps the dequantised values exactly.
        progress: counts weights.

    Raises:
        As `plan_import`.
    """
    plan = plan_import(source)
    for done, total in fill(plan.model, plan.source, plan.family, dtype):
        progress(done, total, "weights")
    if len(plan.tokenizer.ends) > 1:
        plan.model.generation_config.eos_token_id = list(plan.tokenizer.ends)
    target.mkdir(parents=True, exist_ok=True)
    plan.model.save_pretrained(target)
    save_loader(target)
    save_tokenizer(plan.tokenizer, target)
    for file in target.glob("*.safetensors"):
        file.chmod(0o644)  # safetensors leaves them to their owner alone
    Checkpoint.open(target)


def _ids(tokenizer: Read) -> dict[str, int | None]:
    """Special tokens as the config names them; None where the file names none, and never a class's default."""
    return {f"{name}_token_id": tokenizer.ids.get(name) for name in ("bos", "eos", "pad")}
