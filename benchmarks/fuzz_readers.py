"""Break the files that users hand in, in every way that comes to mind, and see that one clear error answers.

Sound little files (`_fuzz_files.py`) are damaged by hypothesis: bytes flipped, counts and offsets replaced by hostile
numbers, parts cut out, doubled or appended, fields of JSON replaced. Each is then read by what the product has for it:

- safetensors headers, index and config.json: opened, read to the last tensor, counted, depth-pruned;
- GGUF files: looked at as a submission does, depth-pruned, and planned and imported as the model;
- config.json, tokenizer.json and tokenizer_config.json: loaded as config and tokenizer, a text encoded;
- YAML task definitions, and rows as JSON lines and Parquet.

A case passes if that works, or ends in an error that is the user's to see, with one line of text, and nothing is left
behind. What the safetensors reader takes the `safetensors` library must take too. No case may take longer than the
limit, and the process may not hold more memory than the limit, which the kernel enforces.

    python benchmarks/fuzz_readers.py [--cases 20000] [--seed 0] [--only NAME ...] [--seconds 10] [--megabytes 1024]
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import json
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from _fuzz_files import SHARD, TOKENIZER_FILES, write_all
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from safetensors import safe_open

from app.services.dataset_files import look_through
from app.services.gguf_config import gguf_file
from app.services.local_files import inspect_model
from secateur.contract.datasets import DatasetFormat
from secateur.contract.errors import BadCheckpoint, InvalidInput, PayloadTooLarge
from workers.engine.architectures.config import as_config
from workers.engine.benchmarks.task_definitions import parse
from workers.engine.checkpoints.checkpoint import CONFIG_FILE, INDEX_FILE, Checkpoint
from workers.engine.checkpoints.gguf_file import read_gguf_header
from workers.engine.checkpoints.gguf_import import import_gguf
from workers.engine.checkpoints.parameters import count_parameters
from workers.engine.pruning.depth import prune_depth
from workers.engine.pruning.gguf_depth import prune_gguf_depth
from workers.engine.text.tokenizer_loading import load_tokenizer
from workers.engine.text.tokenizing import encode

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
PLACES: Any = st.lists(st.integers(0, 40), max_size=5)


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


def json_changed(raw: bytes, choices: list[int], new: Any) -> bytes:
    return json.dumps(replace_in_json(json.loads(raw), choices, new)).encode()


def header_changed(raw: bytes, choices: list[int], new: Any) -> bytes:
    """The same in the header of a safetensors file."""
    length = int.from_bytes(raw[:8], "little")
    header = json_changed(raw[8 : 8 + length], choices, new)
    return len(header).to_bytes(8, "little") + header + raw[8 + length :]


class Cases:
    """Sound files, a scratch folder, and a tally of how the cases ended."""

    def __init__(self, folder: Path, *, seconds: float) -> None:
        self.sound = folder / "sound"
        self.scratch = folder / "scratch"
        self.seconds = seconds
        self.files = 0
        self.slowest = 0.0
        self.tally: collections.Counter[str] = collections.Counter()
        write_all(self.sound)

    def checkpoint(self, file: str, change: Callable[[bytes], bytes]) -> None:
        """One damaged file of the checkpoint."""
        path = self._fresh("checkpoint", file, change)

        def read() -> None:
            inspect_model("checkpoint", [self.scratch])
            checkpoint = Checkpoint.open(path)
            for name in checkpoint.names():
                checkpoint.read(name)
            for shard in checkpoint.files():
                with safe_open(shard, "pt") as opened:
                    assert set(opened.keys()) == {name for name in checkpoint.names() if name in opened.keys()}  # noqa: SIM118  # not a mapping

        self._judge(f"open {file.split('-')[0]}", read)
        self._judge("prune safetensors", lambda: prune_depth(Checkpoint.open(path), self.scratch / "out", drop=[1]))

    def config(self, change: Callable[[bytes], bytes]) -> None:
        """A damaged config.json as what the parameters are counted from."""
        path = self._fresh("checkpoint", CONFIG_FILE, change)

        def read() -> None:
            inspect_model("checkpoint", [self.scratch])
            config = Checkpoint.open(path).config
            as_config(config)
            count_parameters(config)

        self._judge("config.json", read)

    def tokenizer(self, file: str, change: Callable[[bytes], bytes]) -> None:
        path = self._fresh("checkpoint", file, change)

        def read() -> None:
            encode(load_tokenizer(path), "hello he")

        self._judge(file, read)

    def gguf(self, change: Callable[[bytes], bytes]) -> None:
        path = self._fresh("tiny.gguf", None, change)
        self._judge("submit gguf", lambda: inspect_model("tiny.gguf", [self.scratch]))
        self._judge("size gguf", lambda: gguf_file(path))
        self._judge("open gguf", lambda: read_gguf_header(path))
        self._judge("prune gguf", lambda: prune_gguf_depth(path, self.scratch / "out.gguf", drop=[1]))
        self._judge("import gguf", lambda: import_gguf(path, self.scratch / "imported"))

    def task(self, change: Callable[[bytes], bytes]) -> None:
        path = self._fresh("task.yaml", None, change)
        self._judge("task definition", lambda: parse(path.read_bytes(), name=path.name))

    def rows(self, file: str, change: Callable[[bytes], bytes]) -> None:
        path = self._fresh(file, None, change)
        format = DatasetFormat(path.suffix[1:])
        self._judge(file, lambda: look_through(path, format, most_bytes=1 << 20))

    def _fresh(self, name: str, file: str | None, change: Callable[[bytes], bytes]) -> Path:
        """A copy of a sound file, or of a folder, with one file damaged."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        self.files += 1
        target = self.scratch / name
        if file is None:
            target.write_bytes(change((self.sound / name).read_bytes()))
        else:
            shutil.copytree(self.sound / name, target)
            (target / file).write_bytes(change((target / file).read_bytes()))
        return target

    def _judge(self, what: str, run: Callable[[], Any]) -> None:
        before = {entry.name for entry in self.scratch.iterdir()}
        refused: InvalidInput | PayloadTooLarge | None = None
        faulthandler.dump_traceback_later(6 * self.seconds, exit=True)  # where no exception can get through
        signal.setitimer(signal.ITIMER_REAL, self.seconds)
        began = time.monotonic()
        try:
            run()
        except (InvalidInput, PayloadTooLarge) as error:
            refused = error
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            faulthandler.cancel_dump_traceback_later()
            self.slowest = max(self.slowest, time.monotonic() - began)
        if refused is None:
            self.tally[f"{what}: fine"] += 1
            return
        kind = "refused" if isinstance(refused, BadCheckpoint) else f"refused as {type(refused).__name__}"
        self.tally[f"{what}: {kind}"] += 1
        assert refused.detail
        assert refused.detail.isprintable(), refused.detail
        assert {entry.name for entry in self.scratch.iterdir()} == before, "something was left behind"


def kinds_of(cases: Cases) -> dict[str, tuple[int, Callable[[Any], None], Any]]:
    """By name: the weight of a kind of damage, what does it, and what is drawn for it."""
    in_json = st.tuples(PLACES, JSON_VALUES)
    of_checkpoint = st.sampled_from([SHARD, SHARD, INDEX_FILE, CONFIG_FILE])

    def structure(drawn: Any) -> None:
        (choices, new), file = drawn
        change = header_changed if file == SHARD else json_changed
        cases.checkpoint(file, lambda raw: change(raw, choices, new))

    return {
        "checkpoint-bytes": (3, lambda drawn: cases.checkpoint(drawn[1], lambda raw: damage(raw, drawn[0])),
                             st.tuples(EDITS, of_checkpoint)),
        "checkpoint-json": (3, structure, st.tuples(in_json, of_checkpoint)),
        "gguf": (3, lambda edits: cases.gguf(lambda raw: damage(raw, edits)), EDITS),
        "config": (3, lambda drawn: cases.config(lambda raw: json_changed(raw, *drawn)), in_json),
        "tokenizer": (3, lambda drawn: cases.tokenizer(drawn[1], lambda raw: json_changed(raw, *drawn[0])),
                      st.tuples(in_json, st.sampled_from(TOKENIZER_FILES))),
        "tokenizer-bytes": (1, lambda edits: cases.tokenizer("tokenizer.json", lambda raw: damage(raw, edits)), EDITS),
        "task": (2, lambda edits: cases.task(lambda raw: damage(raw, edits)), EDITS),
        "jsonl": (1, lambda edits: cases.rows("rows.jsonl", lambda raw: damage(raw, edits)), EDITS),
        "parquet": (1, lambda edits: cases.rows("rows.parquet", lambda raw: damage(raw, edits)), EDITS),
    }  # fmt: skip


def run(count: int, start: int, cases: Cases, only: Sequence[str] = ()) -> None:
    """So many cases, shared by the kinds of damage."""
    kinds = {name: kind for name, kind in kinds_of(cases).items() if not only or name in only}
    total = sum(weight for weight, _, _ in kinds.values())
    for weight, break_it, strategy in kinds.values():
        config = settings(
            max_examples=-(-count * weight // total),
            database=None,
            deadline=None,
            derandomize=False,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        trial: Any = seed(start)(config(given(strategy)(_taking(break_it))))  # type: ignore[no-untyped-call]
        trial()


def _taking(break_it: Callable[[Any], None]) -> Callable[[Any], None]:
    """A function of its own for each kind, as hypothesis wants it."""

    def one_case(drawn: Any) -> None:
        break_it(drawn)

    return one_case


def _too_long(number: int, frame: Any) -> None:
    raise TimeoutError("a reader took longer than the limit")


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cases", type=int, default=20_000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--only", nargs="*", default=[], help="kinds of damage; all if none is named")
    arguments.add_argument("--seconds", type=float, default=10, help="that a reader may take")
    arguments.add_argument("--megabytes", type=int, default=1024, help="of data that the process may hold")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    limit = options.megabytes << 20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    signal.signal(signal.SIGALRM, _too_long)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        cases = Cases(Path(folder), seconds=options.seconds)
        run(options.cases, options.seed, cases, options.only)
    for ending, count in sorted(cases.tally.items()):
        print(f"{count:6}  {ending}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(
        f"{cases.files} damaged files, no other error, nothing left behind; {time.monotonic() - began:.0f} s, "
        f"the slowest reading {cases.slowest:.1f} s, at most {peak} MB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
