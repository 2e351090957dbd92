"""Estimates held against stages that are run alone: parameters and bytes of what they leave, and their peak memory.

    python benchmarks/estimates.py smollm2.gguf news.txt --out /tmp/stages
    python benchmarks/estimates.py smollm2.gguf news.txt --out /tmp/stages --only recover --parts

Each stage runs in a process of its own, forked and watched over as a worker does it, so its memory is what the product
counts: pages of its own, without mapped files. The load of the machine changes nothing of that. Texts and steps are
few, and sizes real. What a stage has left stays in the folder `--out`, for those that read it and for the next call.

The estimate is by sizes alone, as it is before anything like it has run. What takes time is `estimates_of_jobs.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _estimated_stages import Case, cases, of_a_mixture

from app.services.gguf_config import gguf_file
from app.services.stored_weights import stored_in
from app.settings import Settings
from secateur.contract.estimates.memory import peak_memory
from secateur.contract.estimates.model import DTYPE_BYTES, KnownModel, in_bytes, known_model
from secateur.contract.estimates.quantised import quantised_bytes
from secateur.contract.estimates.removal import Removal, removal_of
from secateur.contract.estimates.setting import Setting
from secateur.contract.estimates.sizes import pruned_size
from secateur.contract.estimates.speedups import speedup
from secateur.contract.models.parameters import parameter_count
from secateur.contract.numbers import percent, ratio, size
from secateur.contract.protocol import stage_event
from secateur.contract.spec import CompressionSpec
from workers.launch.fork_server import ForkServer, StageProcess
from workers.launch.guardian import lease_clock
from workers.machine.memory import machine_memory

JOB = "01935e3a-1c3a-7b6e-9a53-4c1f2d3e4f50"
HOURS = 3600.0


@dataclass(frozen=True)
class Ran:
    """What a stage has given and taken."""

    result: dict[str, Any]
    memory: int  # bytes at its peak
    seconds: float


class Stages:
    """Runs cases of one model, each once."""

    def __init__(self, arguments: argparse.Namespace, found: list[Case]) -> None:
        self._arguments = arguments
        self._cases = {case.name: case for case in found}
        self._server = ForkServer("workers.stage:main", Settings().stage_preload)

    def run(self, name: str, *, again: bool = False) -> Ran:
        """The stage after all that it reads; from the folder, where it has run before."""
        case, folder = self._cases[name], self._folder(name)
        kept = folder / "ran.json"
        if kept.is_file() and not again:
            found = json.loads(kept.read_text())
            return Ran(found["result"], found["memory"], found["seconds"])
        for earlier in case.after:
            self.run(earlier)
        ran = self._run(case, folder)
        kept.write_text(json.dumps(vars(ran)))
        return ran

    def close(self) -> None:
        self._server.stop()

    def spec(self, case: Case) -> dict[str, Any]:
        model = {"source": "local", "path": self._arguments.model.name}
        return {"model": model, "recovery": {"kind": "none"}, **case.sections}

    def _folder(self, name: str) -> Path:
        found: Path = self._arguments.out / re.sub(r"\W+", "-", name)
        return found

    def _run(self, case: Case, folder: Path) -> Ran:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if case.kind == "check":  # the import is a part of it
            shutil.rmtree(self._arguments.out / "cache", ignore_errors=True)
        inputs = {
            self._cases[name].kind: {"kind": self._cases[name].kind, "folder": str(self._folder(name) / "out")}
            for name in case.after
        }
        content = {
            "job_id": JOB,
            "key": case.kind,
            "kind": case.kind,
            "created_at": "2026-01-01T00:00:00Z",
            "spec": self.spec(case),
            "work": str(folder),
            "inputs": inputs,
            "runtime": {
                "device": "cpu",
                "threads": self._arguments.threads,
                "cache": str(self._arguments.out / "cache"),
                "model_roots": [str(self._arguments.model.parent)],
                "data_roots": [str(self._arguments.text.parent)],
            },
        }
        (folder / "spec.json").write_text(json.dumps(content))
        began = time.monotonic()
        process = self._server.start(
            folder / "spec.json", log=folder / "log", until=lease_clock() + HOURS, memory=machine_memory()
        )
        parts = _Parts(process) if self._arguments.parts else None
        try:
            lines = b""
            while (ended := process.poll()) is None:
                select.select([process.events, process.status], [], [], 0.02 if parts else 0.5)
                lines += _read(process.events)
                if parts is not None:
                    parts.look(lines)
            lines += _read(process.events)
        finally:
            process.close()
        if parts is not None:
            parts.show()
        last = stage_event.validate_json(lines.splitlines()[-1])
        if last.type != "result":
            raise SystemExit(f"{case.name}: {last}\n{(folder / 'log').read_text()[-2000:]}")
        return Ran(last.data, ended.memory, time.monotonic() - began)


class _Parts:
    """The most that the stage's own process held while each of its parts ran, and how far that was."""

    def __init__(self, process: StageProcess) -> None:
        self._process, self._most = process, dict[str, tuple[int, str]]()
        self._part, self._at, self._read = "at first", "", 0

    def look(self, lines: bytes) -> None:
        whole = lines.rfind(b"\n") + 1
        for line in lines[self._read : whole].splitlines():
            event = stage_event.validate_json(line)
            if event.type == "part":
                self._part, self._at = f"{event.name} {event.state}", ""
            elif event.type == "progress":
                self._at = f"{event.done} of {event.total} {event.unit}"
        self._read = whole
        held = 0
        with suppress(OSError):
            status = Path(f"/proc/{self._process.pid}/status").read_text()
            held = next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("RssAnon")), 0)
        self._most[self._part] = max(self._most.get(self._part, (0, "")), (held, self._at))

    def show(self) -> None:
        for part, (held, at) in self._most.items():
            print(f"    {part}: {size(held)}{f' at {at}' if at else ''}")


def _read(descriptor: int) -> bytes:
    found = b""
    while True:
        try:
            data = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return found
        if not data:
            time.sleep(0.01)
            return found
        found += data


def known(path: Path) -> tuple[KnownModel, bool]:
    """The model as an estimate knows it, and whether it comes as a GGUF file."""
    if path.is_file():
        file = gguf_file(path)
        count = None if file is None else parameter_count(file.config)
        if file is None or count is None:
            raise SystemExit(f"the head of {path.name} does not tell the model's sizes")
        model = known_model(file.config, in_bytes(count, DTYPE_BYTES["float32"]))
    else:
        config = json.loads((path / "config.json").read_text())
        model = known_model(config, stored_in(path, int(config["num_hidden_layers"])))
    if model is None:
        raise SystemExit(f"no formula is known for {path.name}")
    return model, path.is_file()


def off(estimated: float | None, measured: float | None) -> str:
    """By how much the estimate misses."""
    if estimated is None or not measured:
        return "unknown"
    return percent(estimated / measured - 1, 2)


def sizes(setting: Setting, removal: Removal | None, ran: Ran) -> str:
    """What a pruning has left, estimated and counted."""
    if removal is None or "parameters_after" not in ran.result:
        return ""
    told = pruned_size(setting.model, removal, width=setting.width)
    certain = "" if removal.exact else f" ± {removal.spread:,}"
    left, written = ran.result["parameters_after"], ran.result["bytes_after"]
    same = "same" if told.parameters == left else f"{told.parameters - left:+,}"
    counted = f"{left:,} parameters, told {told.parameters:,}{certain} ({same})"
    return f"{counted}; {written:,} bytes: {off(told.bytes, written)}"


def quantised(spec: CompressionSpec, setting: Setting, ran: Ran) -> list[str]:
    """Bytes of the quantised models' tensors."""
    found = zip(spec.quantise, ran.result["variants"], strict=True)
    return [
        f"{one['bytes']:,} bytes of tensors: {off(quantised_bytes(setting, way), one['bytes'])}" for way, one in found
    ]


def speed(spec: CompressionSpec, setting: Setting, ran: Ran) -> str:
    """By how much the pruned model is faster, by the weights that are read and as it was timed in turn."""
    pruned = next((one for one in ran.result["variants"] if one["variant"] == "pruned"), None)
    cell = next((cell for cell in (pruned or {}).get("latency", ()) if cell.get("speedup")), None)
    told = speedup(spec, setting.model, setting.removal, past=[], device="")
    if cell is None or told is None:
        return ""
    found = cell["speedup"]
    span = f"({found['low']:.2f} to {found['high']:.2f})"
    return f"{ratio(told.value)} told, {ratio(found['median'])} {span} measured: {off(told.value, found['median'])}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="checkpoint folder, or a .gguf file")
    parser.add_argument("text", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="where what stages leave is kept")
    parser.add_argument("--only", default="", help="cases whose names match this regular expression")
    parser.add_argument("--again", action="store_true", help="run them although they have run before")
    parser.add_argument("--parts", action="store_true", help="tell the memory at each part of a stage")
    parser.add_argument("--target", type=Path, help="model that drafts are for; the model itself if absent")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    for name in ("model", "text", "out"):
        setattr(arguments, name, getattr(arguments, name).absolute())
    model, imported = known(arguments.model)
    words = {"source": "local", "path": arguments.text.name}
    target = {"source": "local", "path": (arguments.target or arguments.model).name}
    mixture = bool(model.count.blocks[-1].experts)
    found = of_a_mixture(words) if mixture else cases(words, len(model.count.blocks), target)
    stages = Stages(arguments, found)
    try:
        for case in found:
            if not re.search(arguments.only, case.name):
                continue
            spec = CompressionSpec.model_validate(stages.spec(case))
            removal = removal_of(spec, model)
            setting = Setting(spec, model, removal, imported, "cpu", 4, model if spec.target_model else None)
            told = peak_memory(case.kind, setting)
            ran = stages.run(case.name, again=arguments.again)
            shown = [f"{size(told)} told, {size(ran.memory)} used: {off(told, ran.memory)}", f"{ran.seconds:.0f} s"]
            if left := sizes(setting, removal, ran):
                shown.append(left)
            if case.kind == "quantise":
                shown += quantised(spec, setting, ran)
            if case.kind == "benchmark" and (faster := speed(spec, setting, ran)):
                shown.append(faster)
            print(f"{case.name}: {'; '.join(shown)}", flush=True)
    finally:
        stages.close()


if __name__ == "__main__":
    main()
