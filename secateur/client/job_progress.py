"""How far a job has come, for whoever waits for it."""

from __future__ import annotations

from dataclasses import dataclass

from secateur.contract.use import StageUse
from secateur.schemas.events import Event


@dataclass(frozen=True)
class JobProgress:
    """A step that a stage of the job is at."""

    stage: str  # its key
    done: int
    total: int
    unit: str  # what is counted: "blocks", "steps", "runs"
    use: StageUse | None = None  # what the stage uses of its machine, where that is known

    @property
    def share(self) -> float:
        """Of this step, 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0


def progress_of(event: Event) -> JobProgress | None:
    """What the event says of it; None of an event of another type."""
    if event.type != "progress":
        return None
    use = event.data.get("use")
    return JobProgress(
        stage=event.stage or "",
        done=int(event.data["done"]),
        total=int(event.data["total"]),
        unit=str(event.data["unit"]),
        use=StageUse.model_validate(use) if use else None,
    )
