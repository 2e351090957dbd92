"""Snapshots of a training that runs: all that is needed to go on with the same bits.

They are safetensors and JSON, written into a folder of another name that is renamed when it is whole; so a snapshot
that can be seen is complete, and nothing is ever unpickled.

    snapshot-<step>/
        weights.safetensors     the trained parameters, by name
        optimizer.safetensors   the optimizer's tensors, "<parameter>.<name>"; what is no tensor, in the header
        random.safetensors      states of the generators of Python, numpy, torch and the GPU; likewise
        state.json              the rest: what the training is, and how far it has come

Other processes that train with the first have files of their own, such as `random-<rank>.safetensors`. Their weights
and optimizers are written only where each holds parts; put together along the first dimension, in order, they are the
whole.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from workers.engine.recovery.parallel import global_like, local_part

FORMAT = 2  # of what is written here; snapshots of another are not read
STATE_FILE = "state.json"
_NAME = re.compile(r"snapshot-(\d+)")
_ALL = ("random", "weights", "optimizer")  # what a process writes; of one that has no parts, the first alone


def _file(name: str, rank: int) -> str:
    return f"{name}-{rank}.safetensors" if rank else f"{name}.safetensors"


def list_snapshots(folder: Path) -> list[Path]:
    """Complete snapshots in `folder`, the oldest first."""
    found = [path for path in folder.glob("snapshot-*") if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=step_of)


def step_of(snapshot: Path) -> int:
    """The optimizer step after which it was taken."""
    return int(snapshot.name.removeprefix("snapshot-"))


def latest_snapshot(folder: Path, *, identity: str, ranks: int = 1, parts: bool = False) -> Path | None:
    """The newest snapshot of this very training, by so many processes, that can be read; others are removed."""
    files = [_file(name, rank) for rank in range(ranks) for name in (_ALL if parts or rank == 0 else _ALL[:1])]
    for snapshot in reversed(list_snapshots(folder)):
        try:
            state = read_state(snapshot)
            for name in files:
                load_file(snapshot / name)
        except (OSError, ValueError, SafetensorError):  # the machine went down while the disk was written
            state = {}
        if (state.get("format"), state.get("identity")) == (FORMAT, identity):
            return snapshot
        shutil.rmtree(snapshot)
    return None


def snapshot_of(folder: Path, step: int) -> Path:
    """Where the snapshot of this step is, once it is whole."""
    return folder / f"snapshot-{step}"


def part_of(folder: Path, step: int) -> Path:
    """Where the snapshot of this step is written, until it is whole."""
    return folder / f"snapshot-{step}.part"


def begin_snapshot(part: Path) -> None:
    """Make a fresh folder to write a snapshot into."""
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)


def finish_snapshot(part: Path, *, keep: int, best: int | None = None) -> Path:
    """Give a written snapshot its name, then remove the oldest but `keep`; the one of step `best` stays too."""
    path = part.with_suffix("")
    shutil.rmtree(path, ignore_errors=True)
    part.rename(path)
    for old in list_snapshots(path.parent)[:-keep]:
        if step_of(old) != best:
            shutil.rmtree(old)
    return path


def write_state(folder: Path, **state: Any) -> None:
    """Write `state.json`."""
    (folder / STATE_FILE).write_text(json.dumps({"format": FORMAT, **state}))


def read_state(folder: Path) -> dict[str, Any]:
    """What `write_state` wrote."""
    state: dict[str, Any] = json.loads((folder / STATE_FILE).read_text())
    return state


def save_weights(folder: Path, model: nn.Module, *, rank: int = 0) -> None:
    """Write the parameters that are trained, or the parts of them that this process holds."""
    trained = {name: local_part(parameter.detach()).contiguous() for name, parameter in _trained(model).items()}
    save_file(trained, folder / _file("weights", rank))


@torch.no_grad()
def load_weights(folder: Path, model: nn.Module, *, rank: int = 0) -> None:
    """Put the trained parameters, or this process's parts of them, back, bit for bit."""
    saved = load_file(folder / _file("weights", rank))
    for name, parameter in _trained(model).items():
        local_part(parameter).copy_(saved[name])


@torch.no_grad()
def load_whole_weights(folder: Path, model: nn.Module, *, ranks: int) -> None:
    """Put the parameters that so many processes trained in parts into a model that has them whole."""
    with ExitStack() as stack:
        files = [folder / _file("weights", rank) for rank in range(ranks)]
        parts = [stack.enter_context(safe_open(file, framework="pt")) for file in files]
        for name, parameter in _trained(model).items():
            parameter.copy_(torch.cat([part.get_tensor(name) for part in parts]))


def save_optimizer(folder: Path, optimizer: torch.optim.Optimizer, *, rank: int = 0) -> None:
    """Write the optimizer's state, or the parts of it that this process holds."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for number, slots in state["state"].items():
        for name, value in _flat(slots):
            if isinstance(value, Tensor):
                tensors[f"{number}.{name}"] = local_part(value).contiguous()
            else:
                plain.setdefault(str(number), {})[name] = value
    _separate(tensors)
    _save(folder / _file("optimizer", rank), tensors, [state["param_groups"], plain])


def load_optimizer(folder: Path, optimizer: torch.optim.Optimizer, *, rank: int = 0) -> None:
    """Put the state back that `save_optimizer` took apart."""
    tensors, (groups, plain) = _load(folder / _file("optimizer", rank))
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for number, slots in plain.items():
        for name, value in slots.items():
            _put(state.setdefault(int(number), {}), name, value)
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        _put(state.setdefault(int(number), {}), name, global_like(parameters[int(number)], value))
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _flat(slots: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Values with their names; those of a mapping within are named `outer/inner` (bitsandbytes nests its states)."""
    for name, value in slots.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}/")
        else:
            yield before + name, value


def _put(slots: dict[str, Any], name: str, value: Any) -> None:
    """The reverse of `_flat`, for one value."""
    *outer, last = name.split("/")
    for part in outer:
        slots = slots.setdefault(part, {})
    slots[last] = value


def _separate(tensors: dict[str, Tensor]) -> None:
    """Copy what shares memory, such as a table that all parameters look up: a file holds each by itself."""
    seen: set[int] = set()
    for name, tensor in tensors.items():
        if tensor.numel() and tensor.data_ptr() in seen:
            tensors[name] = tensor.clone()
        seen.add(tensor.data_ptr())


def save_random(folder: Path, *, rank: int = 0) -> None:
    """Write the generators' states of this process."""
    _save(folder / _file("random", rank), *_random_states())


def load_random(folder: Path, *, rank: int = 0) -> None:
    """Set every generator of this process to where it stood."""
    _set_random(*_load(folder / _file("random", rank)))


def _save(file: Path, tensors: dict[str, Tensor], plain: list[Any]) -> None:
    """Tensors, and what is none as JSON in the header."""
    save_file(tensors, file, metadata={"plain": json.dumps(plain)})


def _load(file: Path) -> tuple[dict[str, Tensor], list[Any]]:
    with safe_open(file, framework="pt") as opened:
        return load_file(file), json.loads(opened.metadata()["plain"])


def _random_states() -> tuple[dict[str, Tensor], list[Any]]:
    """Of Python's, numpy's and torch's generators, and what of them is not a tensor."""
    version, words, gauss = random.getstate()
    algorithm, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    tensors = {
        "torch": torch.random.get_rng_state(),
        "python": torch.tensor(words, dtype=torch.int64),
        "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)),
    }
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.random.get_rng_state()
    return tensors, [version, gauss, algorithm, int(position), int(has_gauss), float(cached)]


def _set_random(tensors: Mapping[str, Tensor], plain: list[Any]) -> None:
    version, gauss, algorithm, position, has_gauss, cached = plain
    random.setstate((version, tuple(tensors["python"].tolist()), gauss))
    keys = tensors["numpy"].numpy().astype(np.uint32)
    np.random.set_state((algorithm, keys, position, has_gauss, cached))
    torch.random.set_rng_state(tensors["torch"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.random.set_rng_state(tensors["cuda"])


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
