"""Break checkpoints in every way that comes to mind, and see that the readers answer with one clear error.

Sound little files, a sharded safetensors checkpoint and a GGUF file, are damaged by hypothesis: bytes flipped, counts
and offsets replaced by hostile numbers, parts cut out, doubled or appended, fields of the JSON replaced. Each is then
opened, read to the last tensor, and depth-pruned. A case passes if that works, or ends in `BadCheckpoint` (or another
error that is the user's to see) with one line of text, and nothing is left behind. What the safetensors reader takes
the `safetensors` library must take too.

    python benchmarks/fuzz_readers.py [--cases 2400] [--seed 0]
"""

from __future__ import annotations

import argparse
import collections
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from app.errors import BadCheckpoint, InvalidInput
from workers.engine.checkpoints.checkpoint import CONFIG_FILE, INDEX_FILE, Checkpoint
from workers.engine.checkpoints.gguf_file import read_gguf_header
from workers.engine.pruning.depth import prune_depth
from workers.engine.pruning.gguf_depth import prune_gguf_depth

HOSTILE = [0, 1, 2, 7, 31, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1]
JSON_VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(HOSTILE),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
# place in the file as a fraction, how, and with what
EDITS: Any = st.lists(
    st.tuples(
        st.floats(0, 1) | st.floats(0, 0.05),
        st.sampled_from(["flip", "number", "insert", "delete", "double", "cut", "append"]),
        st.sampled_from(HOSTILE) | st.integers(0, 2**64 - 1),
        st.binary(min_size=1, max_size=16),
    ),
    min_size=1,
    max_size=3,
)


def damage(raw: bytes, edits: list[tuple[float, str, int, bytes]]) -> bytes:
    data = bytearray(raw)
    for place, how, number, extra in edits:
        at = min(int(place * len(data)), max(len(data) - 1, 0))
        if how == "flip" and data:
            data[at] ^= 1 << number % 8
        elif how == "number":
            data[at : at + 8] = number.to_bytes(8, "little")
        elif how == "insert":
            data[at:at] = extra
        elif how == "delete":
            del data[at : at + len(extra)]
        elif how == "double":
            data[at:at] = data[at : at + 16 * len(extra)]
        elif how == "cut":
            del data[at:]
        elif how == "append":
            data += extra
    return bytes(data)


def replace_in_json(value: Any, choices: list[int], new: Any) -> Any:
    """Follow the choices into the value, and put `new` there; with no choice left, in place of the whole."""
    if not choices or not isinstance(value, dict | list) or not value:
        return new
    if isinstance(value, list):
        at = choices[0] % len(value)
        return [replace_in_json(item, choices[1:], new) if i == at else item for i, item in enumerate(value)]
    key = list(value)[choices[0] % len(value)]
    return {**value, key: replace_in_json(value[key], choices[1:], new)}


class Cases:
    """Sound files, a scratch folder, and a tally of how the cases ended."""

    def __init__(self, folder: Path) -> None:
        self.sound = folder / "sound"
        self.scratch = folder / "scratch"
        self.tally: collections.Counter[str] = collections.Counter()
        _write_checkpoint(self.sound / "checkpoint")
        _write_gguf(self.sound / "tiny.gguf")

    def checkpoint(self, file: str, change: Callable[[bytes], bytes]) -> None:
        """One damaged file of the checkpoint."""
        self._fresh()
        path = self.scratch / "checkpoint"
        shutil.copytree(self.sound / "checkpoint", path)
        (path / file).write_bytes(change((path / file).read_bytes()))

        def read() -> None:
            checkpoint = Checkpoint.open(path)
            for name in checkpoint.names():
                checkpoint.read(name)
            for shard in checkpoint.files():
                with safe_open(shard, "pt") as opened:
                    assert set(opened.keys()) == {name for name in checkpoint.names() if name in opened.keys()}  # noqa: SIM118  # not a mapping

        self._judge(f"open {file.split('-')[0]}", read)
        self._judge("prune safetensors", lambda: prune_depth(path, self.scratch / "out", drop=[1]))

    def gguf(self, change: Callable[[bytes], bytes]) -> None:
        self._fresh()
        path = self.scratch / "tiny.gguf"
        path.write_bytes(change((self.sound / "tiny.gguf").read_bytes()))
        self._judge("open gguf", lambda: read_gguf_header(path))
        self._judge("prune gguf", lambda: prune_gguf_depth(path, self.scratch / "out", drop=[1]))

    def _fresh(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()

    def _judge(self, what: str, run: Callable[[], Any]) -> None:
        before = {entry.name for entry in self.scratch.iterdir()}
        refused: InvalidInput | None = None
        try:
            run()
        except InvalidInput as error:
            refused = error
        if refused is None:
            self.tally[f"{what}: fine"] += 1
            return
        kind = "refused" if isinstance(refused, BadCheckpoint) else f"refused as {type(refused).__name__}"
        self.tally[f"{what}: {kind}"] += 1
        assert refused.detail
        assert refused.detail.isprintable(), refused.detail
        assert {entry.name for entry in self.scratch.iterdir()} == before, "something was left behind"


def _write_checkpoint(path: Path) -> None:
    path.mkdir(parents=True)
    hidden, blocks = 8, 3
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": hidden, "intermediate_size": 16,
        "num_hidden_layers": blocks, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 12,
        "tie_word_embeddings": True, "rms_norm_eps": 1e-5, "max_position_embeddings": 32, "dtype": "bfloat16",
    }  # fmt: skip
    (path / CONFIG_FILE).write_text(json.dumps(config))
    shapes = {
        "self_attn.q_proj": (8, 8),
        "self_attn.k_proj": (4, 8),
        "self_attn.v_proj": (4, 8),
        "mlp.up_proj": (16, 8),
    }
    shards: list[dict[str, torch.Tensor]] = [{"model.embed_tokens.weight": torch.ones(12, hidden)}, {}]
    for block in range(blocks):
        for part, shape in shapes.items():
            shards[block % 2][f"model.layers.{block}.{part}.weight"] = torch.ones(shape, dtype=torch.bfloat16)
    names = [f"model-{number}-of-2.safetensors" for number in (1, 2)]
    for name, tensors in zip(names, shards, strict=True):
        save_file(tensors, path / name, metadata={"format": "pt"})
    weight_map = {tensor: name for name, tensors in zip(names, shards, strict=True) for tensor in tensors}
    (path / INDEX_FILE).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


def _write_gguf(path: Path) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(3)
    writer.add_embedding_length(8)
    writer.add_array("llama.attention.head_count_kv", [1, 2, 1])
    writer.add_token_list([f"token {number}" for number in range(12)])
    writer.add_array("tokenizer.ggml.scores", [0.5] * 12)
    writer.add_tensor("token_embd.weight", np.ones((12, 32), dtype=np.float32))
    for block in range(3):
        packed = np.zeros((4, 34), dtype=np.uint8)
        writer.add_tensor(f"blk.{block}.attn_q.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(f"blk.{block}.attn_norm.weight", np.ones(5, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def run(count: int, start: int, cases: Cases) -> None:
    """A third of the cases each: bytes of the checkpoint, JSON of the checkpoint, bytes of the GGUF file."""
    share = -(-count // 3)
    config = settings(
        max_examples=share,
        database=None,
        deadline=None,
        derandomize=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    shard = "model-1-of-2.safetensors"

    @seed(start)
    @config
    @given(edits=EDITS, file=st.sampled_from([shard, shard, INDEX_FILE, CONFIG_FILE]))
    def bytes_of_the_checkpoint(edits: Any, file: str) -> None:
        cases.checkpoint(file, lambda raw: damage(raw, edits))

    @seed(start)
    @config
    @given(
        choices=st.lists(st.integers(0, 40), max_size=4),
        new=JSON_VALUES,
        file=st.sampled_from([shard, shard, INDEX_FILE, CONFIG_FILE]),
    )
    def json_of_the_checkpoint(choices: list[int], new: Any, file: str) -> None:
        def change(raw: bytes) -> bytes:
            if file != shard:
                return json.dumps(replace_in_json(json.loads(raw), choices, new)).encode()
            length = int.from_bytes(raw[:8], "little")
            header = json.dumps(replace_in_json(json.loads(raw[8 : 8 + length]), choices, new)).encode()
            return len(header).to_bytes(8, "little") + header + raw[8 + length :]

        cases.checkpoint(file, change)

    @seed(start)
    @config
    @given(edits=EDITS)
    def bytes_of_the_gguf(edits: Any) -> None:
        cases.gguf(lambda raw: damage(raw, edits))

    bytes_of_the_checkpoint()
    json_of_the_checkpoint()
    bytes_of_the_gguf()


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cases", type=int, default=2400)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        cases = Cases(Path(folder))
        run(options.cases, options.seed, cases)
    for ending, count in sorted(cases.tally.items()):
        print(f"{count:6}  {ending}")
    files = sum(count for ending, count in cases.tally.items() if ending.startswith("open"))
    print(f"{files} damaged files, no other error, nothing left behind; {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
