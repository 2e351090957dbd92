"""GPTQ: integers chosen so that a layer's outputs change least on a text, not its weights (Frantar et al. 2022).

A linear layer with weights W and inputs x has the squared output error tr((W - Q) H (W - Q)ᵀ) with H = Σ x xᵀ. Columns
are rounded one after the other, and the error of each is made good by the columns that are still to come (arXiv
2210.17323, algorithm 1): with U the upper Cholesky factor of H⁻¹, rounding column i with error e = (w_i - q_i) / U_ii
takes e · U_i,j from every later column j. Columns with the largest H_ii come first, as their errors cost most. The
scales are found before, from the groups as they lie (`integers.py`), so the order changes nothing in the format.

The blocks are walked once. What enters a block has passed the blocks before it as they were rounded, so their errors
are seen and made good too. One block's weights and one layer's H are in memory at a time; the integers of a block go to
disk when it is done, and a walk that was killed goes on behind the last such block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from secateur.contract.errors import StageFailed
from secateur.whole_files import whole_file
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.block_model import BlockModel
from workers.engine.progress import Progress, no_progress
from workers.engine.quantise.integers import Rounded, round_to_integers
from workers.engine.scoring.intact_states import through

_TOGETHER = 128  # columns whose corrections of the later ones are made as one matrix product
_DAMPENING = (1.0, 10.0, 100.0)  # tried in turn where H is too near to singular


@torch.no_grad()
def gptq(
    model: BlockModel,
    checkpoint: Checkpoint,
    ids: Tensor,
    targets: Mapping[str, str],
    *,
    bits: int,
    group_size: int | None,
    dampening: float,
    scratch: Path,
    progress: Progress = no_progress,
) -> None:
    """Round the linear layers of every block, and leave one file per block in `scratch`; `found_in` reads them.

    Args:
        model: a view of the checkpoint; the weights that it holds in memory become the rounded ones.
        checkpoint: the weights are rounded as they lie on disk, whatever dtype is computed in.
        ids: (samples, tokens) of the text.
        targets: name of each weight on disk → path of its module in the model.
        bits: 8 or 4.
        group_size: neighbouring columns that share a scale; None: a row.
        dampening: added to the diagonal of H, as a fraction of its mean.
        scratch: blocks that an earlier attempt finished are there, and not rounded again.
        progress: counts blocks.

    Raises:
        StageFailed: the inputs of a layer are not finite.
    """
    tokens = model.check_ids(ids)
    scratch.mkdir(parents=True, exist_ok=True)
    hidden = model.embed(tokens)
    prefix = model.architecture.blocks_prefix
    for block in model.blocks():
        path = f"{prefix}.{block.index}."
        layers = {
            name: block.module.get_submodule(module.removeprefix(path))
            for name, module in targets.items()
            if module.startswith(path)
        }
        file = scratch / f"block-{block.index}.safetensors"
        if not file.is_file():
            with _second_moments(layers) as moments:
                through(block, hidden)
            found = {}
            for name, sums in moments.items():
                weight = checkpoint.read(name).to(sums.device)
                found[name] = round_by(weight, sums, bits=bits, group_size=group_size, dampening=dampening)
            _save(found, file)
        for name, result in _load(file).items():
            weight = layers[name].get_parameter("weight")
            weight.data = _values(result).to(
                weight.device, weight.dtype
            )  # not in place: it may be mapped from the file
        hidden = through(block, hidden)
        progress(block.index + 1, model.n_blocks, "blocks")


def found_in(scratch: Path) -> Callable[[str], Rounded | None]:
    """What `gptq` left there: a weight's name on disk → its integers, or None where it is not among them."""
    files = {}
    for file in sorted(scratch.glob("block-*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            files.update(dict.fromkeys(_names(opened), file))

    def find(name: str) -> Rounded | None:
        if name not in files:
            return None
        with safe_open(files[name], framework="pt") as opened:
            return _one(opened, name)

    return find


def round_by(weight: Tensor, moments: Tensor, *, bits: int, group_size: int | None, dampening: float) -> Rounded:
    """Round one matrix.

    Args:
        weight: (rows, columns).
        moments: (columns, columns), the sum of x xᵀ over the layer's inputs x.
        bits, group_size: as `round_to_integers`, whose scales are taken.
        dampening: fraction of the mean of the diagonal that is added to it.

    Raises:
        StageFailed: the moments are not finite.
    """
    if not torch.isfinite(moments).all():
        raise StageFailed('The inputs of a layer overflow in this dtype, so GPTQ has nothing to go by: try "float32".')
    scale_dtype = torch.float16 if weight.dtype == torch.float16 else torch.bfloat16
    plain = round_to_integers(weight, bits=bits, group_size=group_size, scale_dtype=scale_dtype)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    columns = weight.shape[1]
    order = moments.diagonal().argsort(descending=True, stable=True)
    work = weight.float()[:, order]
    scales = plain.scales.to(work).repeat_interleave(group_size or columns, dim=1)[:, order]
    factor = _factor(moments[order][:, order], dampening)
    integers = torch.empty_like(work, dtype=torch.int8)
    for start in range(0, columns, _TOGETHER):
        stop = min(start + _TOGETHER, columns)
        errors = torch.empty(len(work), stop - start, device=work.device)
        for at in range(start, stop):
            integer = (work[:, at] / scales[:, at]).round_().clamp_(low, high)
            error = (work[:, at] - integer * scales[:, at]) / factor[at, at]
            work[:, at:stop] -= error[:, None] * factor[at, at:stop]
            integers[:, at] = integer.to(torch.int8)
            errors[:, at - start] = error
        work[:, stop:] -= errors @ factor[start:stop, stop:]
    values = torch.empty_like(integers)
    values[:, order] = integers
    result = Rounded(values, plain.scales, 0.0, plain.squared_sum)
    squared_error = float((_values(result) - weight.float()).square().sum(dtype=torch.float64))
    return Rounded(values, plain.scales, squared_error, plain.squared_sum)


def _factor(moments: Tensor, dampening: float) -> Tensor:
    """The upper Cholesky factor of the inverse of the dampened moments, fp32."""
    diagonal = moments.diagonal()
    mean = float(diagonal.mean()) or 1.0
    for times in _DAMPENING:
        dampened = moments.double() + torch.eye(len(moments), device=moments.device) * (times * dampening * mean)
        lower, failed = torch.linalg.cholesky_ex(dampened)
        if not int(failed):
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
            if not int(failed):
                factor: Tensor = upper.float()
                return factor
    raise StageFailed(
        f"The inputs of a layer with {len(moments)} columns do not span them, even with {_DAMPENING[-1]:g} times the "
        "dampening: give GPTQ more text, or more `dampening`."
    )


@contextmanager
def _second_moments(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Sums of x xᵀ over all inputs x that the layers see while the context is open; a layer that sees none has none."""
    sums: dict[str, Tensor] = {}

    def watch(name: str) -> Any:
        def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            rows = inputs[0].flatten(0, -2).float()
            product = rows.T @ rows
            sums[name] = sums[name].add_(product) if name in sums else product

        return look

    hooks = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    try:
        yield sums
    finally:
        for hook in hooks:
            hook.remove()


def _values(result: Rounded) -> Tensor:
    """The weights that the integers stand for, fp32."""
    width = result.values.shape[1] // result.scales.shape[1]
    return result.values.float() * result.scales.float().repeat_interleave(width, dim=1)


def _save(found: Mapping[str, Rounded], file: Path) -> None:
    tensors = {}
    for name, result in found.items():
        tensors[f"{name}.values"] = result.values.cpu().contiguous()
        tensors[f"{name}.scales"] = result.scales.cpu().contiguous()
        sums = [result.squared_error, result.squared_sum]
        tensors[f"{name}.sums"] = torch.tensor(sums, dtype=torch.float64)
    with whole_file(file) as part:
        save_file(tensors, part)


def _load(file: Path) -> dict[str, Rounded]:
    with safe_open(file, framework="pt") as opened:
        return {name: _one(opened, name) for name in _names(opened)}


def _names(opened: Any) -> list[str]:
    return [key.removesuffix(".values") for key in opened.keys() if key.endswith(".values")]  # noqa: SIM118  # no mapping


def _one(opened: Any, name: str) -> Rounded:
    error, total = opened.get_tensor(f"{name}.sums").tolist()
    return Rounded(opened.get_tensor(f"{name}.values"), opened.get_tensor(f"{name}.scales"), error, total)
