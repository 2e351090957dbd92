"""Depth pruning copies byte ranges: its memory is that of a piece, whatever the size of the model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

BLOCKS = 4
PRUNE = """
import sys
from pathlib import Path
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.pruning.depth import prune_depth
folder = Path(sys.argv[1])

def peak():  # not ru_maxrss, which a process inherits from the one that started it
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))

prune_depth(Checkpoint.open(folder / "small"), folder / "small-pruned", drop=[1])
before = peak()
prune_depth(Checkpoint.open(folder / "large"), folder / "large-pruned", drop=[1])
print(peak() - before)
"""


@pytest.mark.thorough
def test_resident_memory_stays_flat(tmp_path: Path) -> None:
    """264 MB are pruned in a process of its own, whose memory may grow by less than one block of four has."""
    write(tmp_path / "small", hidden=64)
    write(tmp_path / "large", hidden=1536)
    grown = subprocess.check_output([sys.executable, "-c", PRUNE, str(tmp_path)])
    assert sum(file.stat().st_size for file in (tmp_path / "large-pruned").iterdir()) > 198_000_000
    assert int(grown) < 40_000  # KiB


def write(folder: Path, *, hidden: int) -> None:
    """A Llama of zeros, each block in a file of its own."""
    folder.mkdir()
    config = {"model_type": "llama", "hidden_size": hidden, "num_hidden_layers": BLOCKS, "num_attention_heads": 4}
    config |= {"intermediate_size": hidden, "vocab_size": 8, "tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(config))
    zeros = torch.zeros(hidden, hidden)
    files: dict[str, str] = {}
    for block in range(BLOCKS):
        names = [f"model.layers.{block}.mlp.{part}_proj.weight" for part in ("gate", "up", "down")]
        names += [f"model.layers.{block}.self_attn.{part}_proj.weight" for part in "qkvo"]
        save_file({name: zeros.clone() for name in names}, folder / f"{block}.safetensors")
        files |= dict.fromkeys(names, f"{block}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
