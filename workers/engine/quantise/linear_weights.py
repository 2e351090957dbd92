"""A checkpoint with the linear layers of its blocks as 8-bit or 4-bit integers, in the format of compressed-tensors.

The result is an ordinary safetensors folder: `AutoModelForCausalLM.from_pretrained` loads it where the package
compressed-tensors is installed, and vLLM runs it without unpacking. transformers itself unpacks the weights when it
loads them, so there the gain is on disk and not in speed. docs/decisions/quantisation.md says why it is not torchao.

The files are rewritten one tensor at a time and the model is never loaded. Embeddings, head and norms keep their dtype:
they are few in a large model, and what they lose costs most.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from secateur.contract.errors import InvalidInput, UnsupportedModel
from workers.engine.architectures.config import as_config
from workers.engine.architectures.discovery import skeleton
from workers.engine.architectures.registry import architecture_of
from workers.engine.checkpoints.checkpoint import CONFIG_FILE, INDEX_FILE, Checkpoint
from workers.engine.checkpoints.json_file import write_json
from workers.engine.checkpoints.names_on_disk import names_on_disk
from workers.engine.checkpoints.new_folder import new_folder
from workers.engine.checkpoints.own_loader import needs_loader
from workers.engine.checkpoints.side_files import copy_side_files
from workers.engine.progress import Progress, no_progress
from workers.engine.quantise.integers import Rounded, round_to_integers
from workers.engine.quantise.outcome import Outcome

FORMAT = "pack-quantized"


@dataclass(frozen=True)
class Targets:
    """Which tensors are rounded, and what the config must say."""

    tensors: dict[str, str]  # name on disk → path of its module
    ignored: list[str]  # linear modules that stay as they are


def targets_of(source: Checkpoint, *, group_size: int | None) -> Targets:
    """The weights of the blocks' linear layers, from config and headers alone.

    Raises:
        UnsupportedModel: the checkpoint needs a loader, is quantised already, or keeps its weights in no linear layers.
        InvalidInput: rows are not made up of whole groups.
    """
    if needs_loader(source.config):
        raise UnsupportedModel.field(
            "kind",
            "Blocks that differ from each other need a loader of their own, which reads no quantised weights.",
            expected="a pruning of whole blocks or of uniform widths, or no integers",
        )
    if source.config.get("quantization_config") is not None:
        raise UnsupportedModel.field(
            "kind", "The model's weights are quantised already.", expected="a model in float32, bfloat16 or float16"
        )
    architecture = architecture_of(source.config)
    if architecture.quirks & {"moe", "conv1d"}:
        raise UnsupportedModel.field(
            "kind",
            f'Linear layers are quantised, and a "{architecture.family}" model has most of its weights elsewhere.',
            expected="a family with dense linear layers, such as Llama, Mistral or Qwen",
        )
    model = skeleton(as_config(source.config))
    linear = [name for name, module in model.named_modules() if type(module) is nn.Linear]
    inside = [name for name in linear if name.startswith(architecture.blocks_prefix + ".")]
    if not inside:
        raise UnsupportedModel.field(
            "kind",
            f'The blocks of a "{architecture.family}" model have no plain linear layers that could be quantised.',
            expected="a family with dense linear layers, such as Llama, Mistral or Qwen",
        )
    _refuse_unloadable(model, inside, architecture.family)
    names = names_on_disk(model, source)
    tensors = {}
    for module in inside:
        held = names[f"{module}.weight"]
        if len(held) != 1:
            raise UnsupportedModel.field(
                "kind",
                f"The checkpoint stores the weight of {module} in another form, or more than once.",
                expected="a checkpoint with one tensor for each linear layer",
            )
        name = held[0]
        columns = source.shape(name)[1]
        if group_size is not None and columns % group_size:
            raise InvalidInput.field(
                "group_size",
                f"The rows of {name} have {columns} weights, which is no multiple of {group_size}.",
                value=group_size,
                expected=f"a divisor of {columns}",
            )
        tensors[name] = module
    return Targets(tensors, [name for name in linear if name not in inside])


def _refuse_unloadable(model: Any, packed: list[str], family: str) -> None:
    """Refuse a family whose class sets up the weights of its layers by name, which packed ones no longer have.

    transformers has the class initialise modules when it loads a checkpoint; on the meta device that costs nothing.
    """
    weights = {name: model.get_submodule(name)._parameters.pop("weight") for name in packed}
    try:
        for name, module in model.named_modules():
            if name not in weights:
                model._init_weights(module)
    except AttributeError as error:
        raise UnsupportedModel.field(
            "kind",
            f'transformers cannot load a "{family}" model whose linear layers are packed: {error}.',
            expected="a family with dense linear layers, such as Llama, Mistral or Qwen",
        ) from error
    finally:
        for name, weight in weights.items():
            model.get_submodule(name)._parameters["weight"] = weight


def quantise_linear(
    source: Checkpoint,
    target: Path,
    *,
    bits: int,
    group_size: int | None,
    found: Callable[[str], Rounded | None] = lambda name: None,
    progress: Progress = no_progress,
) -> Outcome:
    """Write the checkpoint `source` with rounded linear layers into the new folder `target`.

    The folder appears under its name only when it is complete; after an error nothing is left.

    Args:
        bits: 8 or 4.
        group_size: weights that share a scale; None: a row.
        found: integers that were found before, by the weight's name; None for a weight that is rounded to nearest.
        progress: counts tensors.

    Raises:
        UnsupportedModel, InvalidInput: as `targets_of`.
        StageFailed: the disk is full, or `target` exists.
    """
    # Imported here: it takes seconds, and other stages do without it.
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    chosen = targets_of(source, group_size=group_size)
    total = len(source.names())
    stored = 0  # bytes of integers and scales
    error = weight = 0.0
    quantised = other = done = 0
    index: dict[str, str] = {}
    size = 0
    with new_folder(target) as folder:
        for header in source.headers:
            tensors: dict[str, Tensor] = {}
            for entry in header.tensors:
                before = source.read(entry.name)
                if entry.name in chosen.tensors:
                    scale_dtype = torch.float16 if before.dtype == torch.float16 else torch.bfloat16
                    rounded = found(entry.name) or round_to_integers(
                        before, bits=bits, group_size=group_size, scale_dtype=scale_dtype
                    )
                    parts = {
                        "weight_packed": pack_to_int32(rounded.values, bits),
                        "weight_scale": rounded.scales.contiguous(),
                        "weight_shape": torch.tensor(before.shape, dtype=torch.int64),
                    }
                    stored += parts["weight_packed"].nbytes + parts["weight_scale"].nbytes
                    error, weight = error + rounded.squared_error, weight + rounded.squared_sum
                    quantised += before.numel()
                    stem = entry.name.removesuffix("weight")
                    tensors.update({stem + part: tensor for part, tensor in parts.items()})
                else:
                    other += before.numel()
                    tensors[entry.name] = before
                done += 1
                progress(done, total, "tensors")
            save_file(tensors, folder / header.path.name, metadata={"format": "pt"})
            (folder / header.path.name).chmod(0o644)
            index.update(dict.fromkeys(tensors, header.path.name))
            size += sum(tensor.nbytes for tensor in tensors.values())
        copy_side_files(source.path, folder)
        if len(source.headers) > 1:
            write_json(
                folder / INDEX_FILE, {"metadata": {"total_size": size}, "weight_map": dict(sorted(index.items()))}
            )
        config = {**source.config, "quantization_config": quantization_config(bits, group_size, chosen.ignored)}
        write_json(folder / CONFIG_FILE, config)
        Checkpoint.open(folder)
    return Outcome(
        bytes=size,
        quantised_parameters=quantised,
        other_parameters=other,
        bits_per_weight=8 * stored / quantised if quantised else 0.0,
        relative_error=math.sqrt(error / weight) if weight else 0.0,
    )


def quantization_config(bits: int, group_size: int | None, ignored: list[str]) -> dict[str, Any]:
    """What config.json says to whoever loads the weights."""
    weights = {
        "num_bits": bits,
        "type": "int",
        "symmetric": True,
        "strategy": "channel" if group_size is None else "group",
        "group_size": group_size,
        "dynamic": False,
    }
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None, "output_activations": None}
    return {
        "quant_method": "compressed-tensors",
        "format": FORMAT,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ignored,
    }
