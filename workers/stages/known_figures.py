"""The original's figures from an earlier job, where nothing that decides them has changed.

Ten jobs on one model measure the original's perplexity ten times and get the same ten numbers. So figures of its
quality are kept in the cache under a key of all that decides them: the weights, the tokenizer, the machine with its
dtype, threads and library versions, and the settings with the tokens' hash. What depends on the hour is never kept:
the original is timed in every job, in turn with the variants, and its predictions are needed again for the divergence.

An entry is a small JSON file that is written under another name and renamed. One that cannot be read counts for nothing
and is written anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel, TypeAdapter, ValidationError

from secateur.contract.measurements import ReusedFigure
from secateur.contract.results import Environment
from secateur.whole_files import write_whole

T = TypeVar("T")

_VERSION = 4  # of what is kept; entries of another are left alone
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


class _Entry(BaseModel):
    job_id: UUID
    measured_at: datetime
    figures: Any


@dataclass
class KnownFigures:
    """What has been measured on one original, and what of it was taken over."""

    folder: Path | None  # of the entries; None: everything is measured anew and nothing kept
    job_id: UUID
    decides: dict[str, Any]  # about model and machine
    reused: list[ReusedFigure] = field(default_factory=list)

    def recall(self, name: str, settings: Any, kind: TypeAdapter[T], measure: Callable[[], T]) -> T:
        """The figures called `name` under `settings` (plain JSON): from an earlier job, or measured and kept."""
        if self.folder is None:
            return measure()
        path = self.folder / f"{self._key(name, settings)}.json"
        try:
            entry = _Entry.model_validate_json(path.read_bytes())
            figures = kind.validate_python(entry.figures)
        except (OSError, ValidationError):  # there is none, or it is broken
            return self.measure_anew(name, settings, kind, measure)
        self.reused.append(ReusedFigure(figure=name, measured_at=entry.measured_at, job_id=entry.job_id))
        return figures

    def measure_anew(self, name: str, settings: Any, kind: TypeAdapter[T], measure: Callable[[], T]) -> T:
        """Measure, and keep the figures over what is there."""
        figures = measure()
        if self.folder is not None:
            entry = _Entry(
                job_id=self.job_id, measured_at=datetime.now(UTC), figures=kind.dump_python(figures, mode="json")
            )
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / f"{self._key(name, settings)}.json", entry.model_dump_json().encode())
            self.reused = [known for known in self.reused if known.figure != name]
        return figures

    def notes(self) -> list[str]:
        """What was reused and from when, in words; one sentence for each earlier job."""
        by_job: dict[tuple[UUID, str], list[str]] = {}
        for known in self.reused:
            by_job.setdefault((known.job_id, f"{known.measured_at:%Y-%m-%d %H:%M}"), []).append(known.figure)
        return [
            f"Reused of the original: {', '.join(dict.fromkeys(names))}, as job {job} measured on {moment} UTC, on the "
            "same weights, machine and settings. All other figures are this job's own."
            for (job, moment), names in by_job.items()
        ]

    def _key(self, name: str, settings: Any) -> str:
        decides = {"version": _VERSION, **self.decides, "figure": name, "settings": settings}
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def known_figures(
    *, cache: Path, enabled: bool, job_id: UUID, fingerprint: str, checkpoint: Path, machine: Environment
) -> KnownFigures:
    """Those of the original with this fingerprint on this machine.

    Args:
        checkpoint: the original's folder, whose tokenizer files count too.
        enabled: whether figures are reused and kept at all.
    """
    decides = {
        "model": fingerprint,
        "tokenizer": digest(checkpoint / name for name in TOKENIZER_FILES),
        "machine": machine.model_dump(mode="json"),
    }
    return KnownFigures(cache / "figures" if enabled else None, job_id, decides)


def digest(files: Iterable[Path]) -> str:
    """A hash over names and contents of those of the files that there are."""
    found = hashlib.sha256()
    for file in files:
        if file.is_file():
            found.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()
