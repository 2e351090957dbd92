"""The scratch folder of a stage: where its process works, on this host, and what the next attempt goes on from.

    WORK_DIR/STAGE_ID/
        spec.json     what the process was started with
        stage.log     what it printed
        work/         the process's own: out/ is published, the rest (checkpoints of a training) is scratch
        result.json   written when the process has succeeded: its result is published, not computed again

It is keyed by the stage and not by the attempt, so a stage that was killed, or is retried, finds its checkpoints
where it left them. It stays on its host: see docs/decisions/scratch.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from uuid import UUID

from secateur.contract.protocol import NewStage, StageSpec
from secateur.whole_files import write_whole
from workers.supervision.event_relay import StageResult

LOG_TAIL = 4000  # bytes of the process's output that a crash shows


class Scratch:
    """The folder of one stage."""

    def __init__(self, work_dir: Path, stage_id: UUID) -> None:
        self.root = work_dir / str(stage_id)
        self.spec = self.root / "spec.json"
        self.log = self.root / "stage.log"
        self.work = self.root / "work"
        self.out = self.work / "out"
        self._result = self.root / "result.json"

    def prepare(self, spec: StageSpec) -> None:
        """Make the folder and write the spec into it. OSError if the disk is full."""
        self.work.mkdir(parents=True, exist_ok=True)
        os.utime(self.root)
        self.log.write_bytes(b"")
        write_whole(self.spec, spec.model_dump_json(indent=2).encode(), durable=True)

    def save_result(self, spec: StageSpec, result: StageResult) -> None:
        """Keep the result of a process that has succeeded, until it is committed."""
        saved = {"spec": _digest(spec), "result": result.data, "adds": [stage.model_dump() for stage in result.adds]}
        write_whole(self._result, json.dumps(saved).encode(), durable=True)

    def saved_result(self, spec: StageSpec) -> StageResult | None:
        """The result that an earlier attempt with the very same spec has left with its files, uncommitted."""
        try:
            saved = json.loads(self._result.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        if saved.get("spec") != _digest(spec) or not self.out.is_dir():
            return None
        return StageResult(saved["result"], tuple(map(NewStage.model_validate, saved["adds"])))

    def forget_result(self) -> None:
        """A new run of the process begins, and writes over the files that an earlier one's result goes with."""
        self._result.unlink(missing_ok=True)

    def log_tail(self) -> str:
        """The end of what the process printed."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - LOG_TAIL))
                return file.read().decode(errors="replace").replace("\x00", "").strip()
        except FileNotFoundError:
            return ""

    def remove(self) -> None:
        """The stage is committed: nothing here is needed again."""
        shutil.rmtree(self.root, ignore_errors=True)


def stages_in(work_dir: Path) -> Iterator[UUID]:
    """The stages that have scratch on this host."""
    for path in work_dir.glob("*"):
        try:
            yield UUID(path.name)
        except ValueError:
            continue  # not ours


def sweep(work_dir: Path, stage_ids: Iterable[UUID], *, older_than: float = 0.0) -> None:
    """Remove the scratch of these stages that was not used for `older_than` seconds."""
    for stage_id in stage_ids:
        root = Scratch(work_dir, stage_id).root
        try:
            unused = time.time() - root.stat().st_mtime
        except FileNotFoundError:
            continue
        if unused >= older_than:
            shutil.rmtree(root, ignore_errors=True)


def sweep_cache(cache: Path, *, older_than: float) -> None:
    """Remove downloaded inputs that no stage has used for `older_than` seconds."""
    for folder in cache.glob("*/*/*"):  # stages/STAGE/TOKEN, and what a killed download has left beside it
        try:
            unused = time.time() - folder.stat().st_mtime
        except FileNotFoundError:
            continue
        if unused >= older_than:
            shutil.rmtree(folder, ignore_errors=True)


def _digest(spec: StageSpec) -> str:
    return hashlib.sha256(spec.model_dump_json().encode()).hexdigest()
