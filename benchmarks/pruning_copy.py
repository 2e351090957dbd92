"""Depth pruning by header rewrite against `cp` of the same bytes, in turn and in one run.

Each round prunes MODEL and copies the pruned weights with `cp`, the order changing from round to round, into files that
are new each time. What is compared is the whole of `prune_depth`: opening and checking the source, the config, the
copy, and opening the result. Resident memory is measured in a process of its own.

With --synthetic GB a sharded Llama-shaped checkpoint of random bytes of that size is written, pruned and deleted; twice
its size must be free. Files larger than the page cache make both read from the disk. Its config may be another
family's: what a prune imports depends on that.

    python benchmarks/pruning_copy.py MODEL [--drop 5,6,7,20,21,29] [--rounds 7]
    python benchmarks/pruning_copy.py --synthetic 8 --rounds 3 [--model-type gemma2]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from workers.engine.checkpoints.checkpoint import CONFIG_FILE, INDEX_FILE, Checkpoint
from workers.engine.checkpoints.safetensors_file import TensorEntry, encode_header
from workers.engine.pruning.depth import prune_depth

HIDDEN, INNER, VOCABULARY = 4096, 11008, 32000
SHARD_BYTES = 2_000_000_000


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", type=Path, nargs="?", help="checkpoint folder")
    arguments.add_argument("--synthetic", type=float, metavar="GB", help="write a checkpoint of this size and use that")
    arguments.add_argument("--model-type", default="llama", help="of the synthetic checkpoint's config")
    arguments.add_argument("--drop", default="", help="blocks to drop, by default every fifth")
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--folder", type=Path, default=None, help="where to write; on the disk of interest")
    arguments.add_argument("--resident", action="store_true", help=argparse.SUPPRESS)  # the process that is measured
    settings = arguments.parse_args()
    if (settings.model is None) == (settings.synthetic is None):
        arguments.error("name a MODEL or a --synthetic size")
    if settings.resident:
        _resident(settings.model, settings.folder, _numbers(settings.drop))
        return
    with tempfile.TemporaryDirectory(prefix="pruning-copy-", dir=settings.folder) as name:
        folder = Path(name)
        model: Path = settings.model
        if settings.synthetic is not None:
            needed = int(2.2e9 * settings.synthetic)
            if shutil.disk_usage(folder).free < needed:
                sys.exit(f"{needed / 1e9:.0f} GB must be free under {folder.parent}")
            model = folder / "synthetic"
            write_synthetic(model, int(1e9 * settings.synthetic), settings.model_type)
        blocks = json.loads((model / CONFIG_FILE).read_text())["num_hidden_layers"]
        drop = _numbers(settings.drop) or list(range(2, blocks, 5))
        compare(model, folder, drop, settings.rounds)


def compare(model: Path, folder: Path, drop: list[int], rounds: int) -> None:
    """Print both times, their ratio in each round, and the memory."""
    pruned, copied, warm = folder / "pruned", folder / "copied", folder / "warm"
    # imports the family's modules, and brings the files into the cache
    result = prune_depth(Checkpoint.open(model), warm, drop=drop)
    files = [str(file) for file in Checkpoint.open(warm).files()]
    times: dict[str, list[float]] = {"prune": [], "cp": []}
    for number in range(rounds):
        for what in ("prune", "cp") if number % 2 == 0 else ("cp", "prune"):
            began = time.perf_counter()
            if what == "prune":
                prune_depth(Checkpoint.open(model), pruned, drop=drop)
            else:
                copied.mkdir()
                subprocess.run(["cp", *files, str(copied)], check=True)
            times[what].append(time.perf_counter() - began)
            shutil.rmtree(pruned, ignore_errors=True)
            shutil.rmtree(copied, ignore_errors=True)
    ratios = [prune / cp for prune, cp in zip(times["prune"], times["cp"], strict=True)]
    arguments = [str(model), "--resident", "--folder", str(folder), "--drop", ",".join(map(str, drop))]
    before, peak = map(int, subprocess.check_output([sys.executable, __file__, *arguments]).split())
    print(f"{result.bytes_before / 1e9:.2f} GB → {result.bytes_after / 1e9:.2f} GB, blocks dropped: {len(drop)}")
    for what, seconds in times.items():
        print(f"{what:>6}  median {statistics.median(seconds):.3f} s, least {min(seconds):.3f} s, of {rounds}")
    summary = {
        "bytes_after": result.bytes_after,
        "prune_s": statistics.median(times["prune"]),
        "cp_s": statistics.median(times["cp"]),
        "ratio_median": statistics.median(ratios),
        "ratio_of_least": min(times["prune"]) / min(times["cp"]),
        "peak_resident_mb": peak * 1024 / 1e6,  # the interpreter, torch and transformers included
        "of_which_first_imports_mb": before * 1024 / 1e6,  # a family's config class may bring more along
    }
    print(json.dumps({key: round(value, 3) for key, value in summary.items()}))


def _resident(model: Path, folder: Path, drop: list[int]) -> None:
    """Prune once, and print the process's peak in KiB, before and after.

    The kernel's high-water mark is read, and not `ru_maxrss`, which a process inherits from the one that started it.
    """
    before = _peak()
    target = folder / "resident"
    prune_depth(Checkpoint.open(model), target, drop=drop)
    shutil.rmtree(target)
    print(before, _peak())


def _peak() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))


def write_synthetic(path: Path, size: int, model_type: str) -> None:
    """A sharded bfloat16 checkpoint of Llama-7B's width and as many blocks as `size` takes."""
    path.mkdir()
    shapes: dict[str, tuple[int, ...]] = {f"self_attn.{part}_proj": (HIDDEN, HIDDEN) for part in "qkvo"}
    shapes |= {"mlp.gate_proj": (INNER, HIDDEN), "mlp.up_proj": (INNER, HIDDEN), "mlp.down_proj": (HIDDEN, INNER)}
    shapes |= {"input_layernorm": (HIDDEN,), "post_attention_layernorm": (HIDDEN,)}
    block_bytes = sum(_bytes(shape) for shape in shapes.values())
    blocks = max(2, (size - 2 * _bytes((VOCABULARY, HIDDEN))) // block_bytes)
    tensors: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for number in range(blocks):
        tensors |= {f"model.layers.{number}.{part}.weight": shape for part, shape in shapes.items()}
    tensors |= {"model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCABULARY, HIDDEN)}
    shards: list[list[TensorEntry]] = [[]]
    for name, shape in tensors.items():
        if sum(entry.nbytes for entry in shards[-1]) + _bytes(shape) > SHARD_BYTES:
            shards.append([])
        shards[-1].append(TensorEntry(name, "BF16", shape, 0, _bytes(shape)))
    random = os.urandom(1 << 22)
    weight_map = {}
    for number, entries in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        with (path / file).open("wb") as opened:
            opened.write(encode_header(entries, {"format": "pt"}))
            for entry in entries:
                weight_map[entry.name] = file
                for start in range(0, entry.nbytes, len(random)):
                    opened.write(random[: entry.nbytes - start])
    (path / INDEX_FILE).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    config = {
        "model_type": model_type, "dtype": "bfloat16", "hidden_size": HIDDEN, "intermediate_size": INNER,
        "num_hidden_layers": blocks, "num_attention_heads": 32, "vocab_size": VOCABULARY, "tie_word_embeddings": False,
    }  # fmt: skip
    (path / CONFIG_FILE).write_text(json.dumps(config))


def _bytes(shape: tuple[int, ...]) -> int:
    size = 2  # of a bfloat16
    for extent in shape:
        size *= extent
    return size


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


if __name__ == "__main__":
    main()
