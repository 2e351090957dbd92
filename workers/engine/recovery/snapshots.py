"""Snapshots of a training that runs: all that is needed to go on with the same bits.

The Trainer's own checkpoints pickle the optimizer and the generators' states, and are written in place, so a kill
can leave half of one. These are safetensors and JSON, written into a folder of another name that is renamed when
it is whole; so a snapshot that can be seen is complete, and nothing is ever unpickled.

    snapshot-<step>/
        weights.safetensors     the trained parameters, by name
        optimizer.safetensors   the optimizer's tensors, "<parameter>.<name>"
        random.safetensors      states of the generators of Python, numpy, torch and the GPU
        random-<rank>.safetensors   those of another process that trains with it; what is no tensor, in the header
        state.json              the rest: optimizer groups, schedule, what the training is
        trainer_state.json      the Trainer's own: step, loss curve
"""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

_NAME = re.compile(r"snapshot-(\d+)")
STATE_FILE = "state.json"


def list_snapshots(folder: Path) -> list[Path]:
    """Complete snapshots in `folder`, the oldest first."""
    found = [path for path in folder.glob("snapshot-*") if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=step_of)


def step_of(snapshot: Path) -> int:
    """The optimizer step after which it was taken."""
    return int(snapshot.name.removeprefix("snapshot-"))


def latest_snapshot(folder: Path, *, identity: str, ranks: int = 1) -> Path | None:
    """The newest snapshot of this very training, by so many processes, that can be read; others are removed."""
    files = ["weights", "optimizer", "random", *(f"random-{rank}" for rank in range(1, ranks))]
    for snapshot in reversed(list_snapshots(folder)):
        try:
            state = json.loads((snapshot / STATE_FILE).read_text())
            for name in files:
                load_file(snapshot / f"{name}.safetensors")
        except (OSError, ValueError, SafetensorError):  # the machine went down while the disk was written
            state = {}
        if state.get("identity") == identity:
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
    (folder / STATE_FILE).write_text(json.dumps(state))


def read_state(folder: Path) -> dict[str, Any]:
    """What `write_state` wrote."""
    state: dict[str, Any] = json.loads((folder / STATE_FILE).read_text())
    return state


def save_weights(folder: Path, model: nn.Module) -> None:
    """Write the parameters that are trained."""
    trained = {name: parameter.detach().contiguous() for name, parameter in _trained(model).items()}
    save_file(trained, folder / "weights.safetensors")


@torch.no_grad()
def load_weights(folder: Path, model: nn.Module) -> None:
    """Put the trained parameters back, bit for bit."""
    saved = load_file(folder / "weights.safetensors")
    for name, parameter in _trained(model).items():
        parameter.copy_(saved[name])


def save_optimizer(folder: Path, state: Mapping[str, Any]) -> list[Any]:
    """Write the tensors of an optimizer's state_dict; returns its parameter groups and plain values, for JSON."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for number, slots in state["state"].items():
        for name, value in _flat(slots):
            if isinstance(value, Tensor):
                tensors[f"{number}.{name}"] = value.contiguous()
            else:
                plain.setdefault(str(number), {})[name] = value
    _separate(tensors)
    save_file(tensors, folder / "optimizer.safetensors")
    return [state["param_groups"], plain]


def load_optimizer(folder: Path, saved: list[Any]) -> dict[str, Any]:
    """The state_dict that `save_optimizer` took apart."""
    groups, plain = saved
    state: dict[int, dict[str, Any]] = {}
    for number, slots in plain.items():
        for name, value in slots.items():
            _put(state.setdefault(int(number), {}), name, value)
    for key, value in load_file(folder / "optimizer.safetensors").items():
        number, _, name = key.partition(".")
        _put(state.setdefault(int(number), {}), name, value)
    return {"state": state, "param_groups": groups}


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


def save_random(folder: Path) -> list[Any]:
    """Write the generators' states; returns what is not a tensor, for JSON."""
    tensors, plain = _random_states()
    save_file(tensors, folder / "random.safetensors")
    return plain


def load_random(folder: Path, saved: list[Any]) -> None:
    """Set every generator to where it stood."""
    _set_random(load_file(folder / "random.safetensors"), saved)


def save_rank_random(folder: Path, rank: int) -> None:
    """Write the generators' states of another process than the first."""
    tensors, plain = _random_states()
    save_file(tensors, folder / f"random-{rank}.safetensors", metadata={"plain": json.dumps(plain)})


def load_rank_random(folder: Path, rank: int) -> None:
    """Set every generator of another process than the first to where it stood."""
    file = folder / f"random-{rank}.safetensors"
    with safe_open(file, framework="pt") as opened:
        plain = json.loads(opened.metadata()["plain"])
    _set_random(load_file(file), plain)


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
