"""Depth pruning copies byte ranges: its memory is that of a piece, whatever the size of the model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_resident_memory_stays_flat(tmp_path: Path) -> None:
    """600 MB are pruned in a process of its own, whose memory may grow by a fraction of that only."""
    script = """
import json, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.pruning.depth import prune_depth
folder = Path(sys.argv[1])

def write(name, hidden):
    (folder / name).mkdir()
    config = {"model_type": "llama", "hidden_size": hidden, "num_hidden_layers": 4, "num_attention_heads": 4,
              "intermediate_size": hidden, "vocab_size": 8, "tie_word_embeddings": True}
    (folder / name / "config.json").write_text(json.dumps(config))
    for block in range(4):
        names = [f"model.layers.{block}.mlp.{part}_proj.weight" for part in ("gate", "up", "down")]
        names += [f"model.layers.{block}.self_attn.{part}_proj.weight" for part in "qkvo"]
        save_file({n: torch.zeros(hidden, hidden) for n in names}, folder / name / f"{block}.safetensors")
    files = [f"{block}.safetensors" for block in range(4)]
    index = {"weight_map": {n: file for file in files for n in load_names(folder / name / file)}}
    (folder / name / "model.safetensors.index.json").write_text(json.dumps(index))

def peak():  # not ru_maxrss, which a process inherits from the one that started it
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))

def load_names(path):
    from safetensors import safe_open
    with safe_open(path, "pt") as file:
        return list(file.keys())

mode = sys.argv[2]
if mode == "write":
    write("small", 64)
    write("large", 2304)
else:
    prune_depth(Checkpoint.open(folder / "small"), folder / "small-pruned", drop=[1])
    before = peak()
    prune_depth(Checkpoint.open(folder / "large"), folder / "large-pruned", drop=[1])
    print(peak() - before)
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path), "write"], check=True)
    grown = subprocess.check_output([sys.executable, "-c", script, str(tmp_path), "prune"])
    assert sum(file.stat().st_size for file in (tmp_path / "large-pruned").iterdir()) > 400_000_000
    assert int(grown) < 40_000  # KiB
