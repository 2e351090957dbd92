"""Loading a checkpoint into memory as a transformers model.

Only safetensors are read and no code of the checkpoint's own is run. Files are local by then: a hub model was
downloaded and a GGUF file converted before. Weights that were stored as integers are unpacked at once: transformers has
no kernels for them and would do it at the first forward pass, so one token is sent through.
"""

from __future__ import annotations

import ctypes
import gc
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, Cache, PreTrainedModel

from secateur.contract.errors import BadCheckpoint
from workers.engine.blame import blamed_on
from workers.engine.checkpoints import modeling_secateur
from workers.engine.checkpoints.bare_folder import bare_folder
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.computable import refuse_uncomputable
from workers.engine.checkpoints.own_loader import needs_loader


def load_model(checkpoint: Checkpoint, *, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """The checkpoint in memory, in evaluation mode.

    Raises:
        BadCheckpoint: transformers cannot load it, or a tensor is missing.
        UnsupportedModel: it is quantised, and this machine has no kernels for it.
    """
    written = checkpoint.config
    refuse_uncomputable(written, expected="weights that this worker has kernels for, such as bf16")
    if needs_loader(written):
        return _unpacked(_load_by_loader(checkpoint, device=device, dtype=dtype), written)
    with bare_folder(checkpoint) as folder, _blamed():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    model, report = loaded
    model.name_or_path = model.config.name_or_path = str(
        checkpoint.path
    )  # where peft looks for the config that adapters are of
    missing = sorted(report["missing_keys"])
    if missing:
        raise BadCheckpoint.field(
            "model",
            f"The checkpoint lacks {len(missing)} tensors, such as {missing[0]}.",
            value=missing[:5],
            expected="a tensor for every parameter of the model",
        )
    return _unpacked(model.eval().to(device), written)


def _unpacked(model: Any, written: dict[str, Any]) -> PreTrainedModel:
    """The model with its integers unpacked, if it has any.

    A map whose weights alone were quantised is a plain one then. compressed-tensors would still round its weights anew
    at each call, to what they are already, which took a tenth of the time of a token. On a GPU this was not tried, and
    the layers stay as they are.
    """
    if (written.get("quantization_config") or {}).get("quant_method") == "compressed-tensors":
        with torch.no_grad():
            model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=model.device))
        for module in model.modules() if model.device.type == "cpu" else ():
            scheme = getattr(module, "quantization_scheme", None)
            if scheme is None or scheme.input_activations is not None or scheme.output_activations is not None:
                continue
            weight = getattr(module, "weight", None)
            if isinstance(weight, Tensor) and weight.is_floating_point():
                vars(module).pop("forward", None)
    return cast(PreTrainedModel, model)


def _load_by_loader(checkpoint: Checkpoint, *, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """A checkpoint whose blocks no config can say, by the file that is shipped with such."""
    with _blamed():
        model: Any = modeling_secateur.load(checkpoint.path, dtype=dtype, local_files_only=True)
    return cast(PreTrainedModel, model.to(device))


def _blamed() -> AbstractContextManager[None]:
    """Whatever a family's class raises on a config or on weights that it cannot use is a fault of the checkpoint."""
    return blamed_on(
        "model",
        "The checkpoint cannot be loaded",
        expected="a config.json and weights that transformers loads",
        kind=BadCheckpoint,
    )


def next_logits(model: PreTrainedModel, ids: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
    """One forward pass of generation: feed `ids` after what `cache` holds.

    Args:
        ids: (sequences, tokens).

    Returns:
        Logits of the next token, (sequences, vocabulary), and the cache with `ids` added.
    """
    out = model(input_ids=ids, cache=cache, use_cache=True, logits_to_keep=1)
    return out.logits[:, -1], out.cache


def free_memory() -> None:
    """Give memory of dropped models back to the system, so that the next measurement starts level."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim_heap()


def trim_heap() -> None:
    """Give freed memory back to the system: glibc keeps blocks of up to 32 MiB, and they pile up thread by thread."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # no glibc: its allocator keeps what it has
        return
