"""Blocks streamed from a checkpoint on disk: one in use, one being read, the rest only shapes.

The model is built with every parameter on the meta device. What stands outside the blocks (embeddings, final norm,
head) is read once and stays. A block gets its tensors when its turn comes, while a thread reads those of the next,
and gives them up when the next is asked for. So memory holds two blocks, whatever the depth, and a sweep reads
each byte of the weights once.

Names on disk are not always names in memory, and mixtures of experts lie on disk expert by expert but in memory as one
tensor. The conversion is transformers' own (`checkpoints/names_on_disk.py`), taken apart by block, so that both ways of
loading agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from typing import Any, cast

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from secateur.contract.errors import BadCheckpoint, UnsupportedModel
from secateur.contract.models.architecture import Architecture
from workers.engine.architectures.config import as_config
from workers.engine.architectures.registry import architecture_of
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.names_on_disk import Recipe, recipes_of, shapes_of
from workers.engine.model.loading import trim_heap


class Loader:
    """Reads the tensors of one block, or of what stands outside the blocks, by recipe."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        model: PreTrainedModel,
        architecture: Architecture,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.checkpoint = checkpoint
        self._model = model
        self._device = device
        self._dtype = dtype
        self._fp32 = tuple(model._get_dtype_plan(dtype))  # parameters that a family keeps in fp32
        self._prefix = architecture.blocks_prefix + "."
        self._shapes = shapes_of(model)
        self._recipes: dict[int | None, list[Recipe]] = {}
        for recipe in recipes_of(checkpoint, model, self._shapes):
            self._recipes.setdefault(self._block_of(recipe.target), []).append(recipe)

    def missing(self) -> set[str]:
        """Parameters of the model that nothing on disk makes."""
        made = {name for group in self._recipes.values() for recipe in group for name in recipe.targets()}
        return {name for name, _ in self._model.named_parameters(remove_duplicate=False)} - made

    def load(self, block: int | None) -> dict[str, Tensor]:
        """Tensors of block number `block`, or of all that is in no block, by their names in the model.

        Raises:
            BadCheckpoint: a tensor has not the shape that the config asks for.
        """
        tensors: dict[str, Tensor] = {}
        for recipe in self._recipes.get(block, []):
            for name, tensor in self._make(recipe).items():
                if tuple(tensor.shape) != self._shapes.get(name):
                    raise BadCheckpoint.field(
                        "model",
                        f"{recipe.sources[0][1]} makes {name} of the shape {list(tensor.shape)}, and config.json "
                        f"asks for {list(self._shapes.get(name, ()))}.",
                        value=list(tensor.shape),
                        expected=f"the shape {list(self._shapes.get(name, ()))}",
                    )
                tensors[name] = tensor.to(self._device)
        return tensors

    def _make(self, recipe: Recipe) -> dict[str, Tensor]:
        if recipe.converter is None:
            return {recipe.target: self._read(recipe.sources[0][1], recipe.target)}
        converter = deepcopy(recipe.converter)
        for pattern, name in recipe.sources:
            converter.add_tensor(recipe.target, name, pattern, cast(Any, self._read(name, recipe.target)))
        made = converter.convert(recipe.target, model=self._model, config=self._model.config)
        return {name: value[0] if isinstance(value, list) else value for name, value in made.items()}

    def _read(self, name: str, target: str) -> Tensor:
        tensor = self.checkpoint.read(name)
        if not tensor.is_floating_point():
            return tensor
        keep = any(part in target for part in self._fp32)
        return tensor.to(torch.float32 if keep else self._dtype)

    def _block_of(self, target: str) -> int | None:
        if not target.startswith(self._prefix):
            return None
        return int(target.removeprefix(self._prefix).partition(".")[0])


class Streamed:
    """Blocks whose weights come from disk one at a time, the next read ahead by a thread."""

    def __init__(self, loader: Loader, blocks: nn.ModuleList, prefix: str) -> None:
        self.loader = loader
        self._blocks = blocks
        self._prefix = prefix

    def walk(self, order: Sequence[int]) -> Iterator[nn.Module]:
        """Yield the module of each block in `order`, with its weights; each is valid until the next is asked for.

        Raises:
            BadCheckpoint: the files changed or turned out to be broken while they were read.
        """
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as pool:
            ahead: Future[dict[str, Tensor]] | None = None
            for position, index in enumerate(order):
                ahead = ahead or pool.submit(self.loader.load, index)
                tensors = ahead.result()
                ahead = None
                if position + 1 < len(order):
                    ahead = pool.submit(self.loader.load, order[position + 1])
                block = self._blocks[index]
                try:
                    self._install(block, index, tensors)
                    del tensors
                    yield block
                finally:
                    _release(block)
                    trim_heap()

    def _install(self, block: nn.Module, index: int, tensors: dict[str, Tensor]) -> None:
        prefix = f"{self._prefix}.{index}."
        for name, tensor in tensors.items():
            put(block, name.removeprefix(prefix), tensor)


def open_stream(
    checkpoint: Checkpoint, *, device: torch.device, dtype: torch.dtype
) -> tuple[PreTrainedModel, Architecture, Streamed]:
    """A model whose blocks are streamed from the checkpoint; what is outside the blocks is loaded.

    Raises:
        BadCheckpoint: the files are broken, or lack a tensor that the config asks for.
        UnsupportedModel: the model is no decoder-only stack of blocks, or it is quantised.
    """
    method = (checkpoint.config.get("quantization_config") or {}).get("quant_method")
    if method is not None:
        raise UnsupportedModel.field(
            "weights",
            f"The checkpoint is quantised ({method}); its blocks cannot be computed with here.",
            value=method,
            expected="fp32, fp16 or bf16 weights, or blocks that are named, which need no scoring",
        )
    config = as_config(checkpoint.config)
    architecture = architecture_of(checkpoint.config)
    model = empty_model(config, dtype)
    loader = Loader(checkpoint, model, architecture, device=device, dtype=dtype)
    for name, tensor in loader.load(None).items():
        put(model, name, tensor)
    missing = loader.missing()
    model.tie_weights(missing_keys=missing, recompute_mapping=False)  # removes from `missing` what it ties
    if missing:
        raise BadCheckpoint.field(
            "model",
            f"{checkpoint.path.name} lacks {len(missing)} tensors that config.json asks for, such as {min(missing)}.",
            value=sorted(missing)[:5],
            expected="a tensor for every parameter of the model",
        )
    for module in model.modules():  # buffers are real: they are computed from the config, not read
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = buffer.to(device)
    model.train(False)
    blocks = cast(nn.ModuleList, model.get_submodule(architecture.blocks_prefix))
    return model, architecture, Streamed(loader, blocks, architecture.blocks_prefix)


def put(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Make `tensor` the parameter or buffer called `name`, in place of what stands there."""
    path, _, last = name.rpartition(".")
    owner = module.get_submodule(path)
    if last in owner._buffers:
        owner._buffers[last] = tensor
    else:
        owner._parameters[last] = nn.Parameter(tensor, requires_grad=False)


def _release(block: nn.Module) -> None:
    """Put the block's parameters back to the meta device, which frees their memory."""
    for module in block.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(parameter.to("meta"), requires_grad=False)


def empty_model(config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """The model with parameters on the meta device and real buffers."""
    # drawing random numbers for no memory would be three quarters of the time
    with no_init_weights(), init_empty_weights(include_buffers=False):
        # the auto classes carry no annotations
        model = cast(PreTrainedModel, AutoModelForCausalLM.from_config(config, dtype=dtype))  # type: ignore[no-untyped-call]
        model.tie_weights()  # which is left out together with the random numbers
    return model
