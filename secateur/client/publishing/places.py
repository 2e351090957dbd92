"""Where the models of a job lie among its files, by the names that its report has for them.

A variant is a checkpoint's folder, or one GGUF file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from secateur.client.errors import NotPublishable
from secateur.contract.measurements import RECOVERED_FILE
from secateur.contract.report import Report
from secateur.contract.rounds import key_in
from secateur.contract.stage_kinds import PRUNE, QUANTISE, RECOVER, SIZES

CARD = "README.md"


@dataclass(frozen=True)
class Place:
    """One variant's place."""

    variant: str
    path: str  # of a file, or of a folder with a slash at its end: "recover/checkpoint/"
    role: Literal["variant", "beside", "report"] = "variant"  # of what goes along: a card, a licence; the report

    @property
    def is_folder(self) -> bool:
        return self.path.endswith("/")

    def holds(self, path: str) -> bool:
        """Whether an artifact of this path belongs to it."""
        return path.startswith(self.path) if self.is_folder else path == self.path

    def name(self, path: str) -> str:
        """What an artifact is called within the variant."""
        return path.removeprefix(self.path) if self.is_folder else path.rpartition("/")[2]


def places(report: Report) -> dict[str, Place]:
    """Every variant that the job leaves, by name; of a job with two rounds, those of the round that it hands out."""
    prune, recover, sizes, quantise = (key_in(kind.name, report.round) for kind in (PRUNE, RECOVER, SIZES, QUANTISE))
    found = {"pruned": f"{prune}/checkpoint/"}
    if report.pruned.gguf:
        found["pruned-gguf"] = f"{prune}/{report.pruned.gguf.path}"
    final = "pruned"
    if report.recovered:
        final = "recovered"
        found[final] = f"{recover}/checkpoint/"
        if report.recovered.gguf:
            found[RECOVERED_FILE] = f"{recover}/{report.recovered.gguf.path}"
    for model in report.between.models if report.between else []:
        found[f"{final}-{model.name}"] = f"{sizes}/{model.name}/checkpoint/"
    for way in report.quantised.variants if report.quantised else []:
        is_file = way.file_bytes is not None
        found[f"{final}-{way.name}"] = f"{quantise}/{way.path}" + ("" if is_file else "/")
    return {variant: Place(variant, path) for variant, path in found.items()}


def chosen(report: Report, variants: Sequence[str]) -> tuple[Place, ...]:
    """The places of these variants; without any, of the one that the job hands out.

    Raises:
        NotPublishable: the job has no such variant, or two of them are folders, whose files are called alike.
    """
    known = places(report)
    asked = list(dict.fromkeys(variants)) or ["recovered" if report.recovered else "pruned"]
    if unknown := [name for name in asked if name not in known]:
        raise NotPublishable(f"job {report.job_id} has no variant {unknown[0]!r}; it has {', '.join(known)}")
    found = tuple(known[name] for name in asked)
    folders = [place.variant for place in found if place.is_folder]
    if len(folders) > 1:
        raise NotPublishable(
            f"{' and '.join(folders)} are checkpoints, whose files have the same names: publish each by itself, "
            "GGUF files beside one of them as you like"
        )
    return found
