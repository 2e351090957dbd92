"""What a stage process reads and writes: one JSON spec in, JSON lines out.

`python -m workers.stage SPEC.json` runs a stage by hand and prints its events; the supervisor does the same with a
pipe. The process knows no database, queue or HTTP.

Layout of folders: `work` is the stage's own; what it leaves under `work/out/` is handed on and published as
artifacts, everything else there is scratch that survives a kill and is given to the next attempt (checkpoints of a
training, say), and is removed at the end. `inputs` maps the key of an earlier
stage to its kind and the folder of its published output.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from secateur.contract.datasets import DatasetFormat, DatasetKind
from secateur.contract.questions import Question
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import STAGE_KINDS, StageKind


def _known(name: str) -> str:
    if name not in STAGE_KINDS:
        raise ValueError(f"there is no stage {name!r}: expected one of {', '.join(STAGE_KINDS)}")
    return name


KEY = r"^[a-z0-9][a-z0-9._-]{0,62}$"  # of a stage within its job
KindName = Annotated[str, AfterValidator(_known)]


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class UploadedFile(Message):
    """An uploaded data set as it lies on this machine; its content never changes."""

    path: Path
    name: str
    format: DatasetFormat
    kind: DatasetKind
    rows: int
    sha256: str


class WorkingDevice(Message):
    """A worker's device, as a process that has computed something on it describes it."""

    setting: str  # what stages are told in place of `auto`: cpu, cuda or cuda:N
    kind: str  # "cpu", or the card's name and capability: cards of one kind give the same results
    dtype: str  # that `auto` stands for
    name: str = ""  # the processor's or the card's own name, as results have it
    memory: int = 0  # bytes of the card's, or of the machine's that a process may have; 0: not known
    flops: float = 0  # operations a second that it was seen to do; 0: not known
    weights_read: float = 0  # bytes a second, where weights meet a single token; 0: not known


class NewStage(Message):
    """A stage that the job gets with the result of the one that names it."""

    key: str = Field(pattern=KEY)  # the job has no other of this key; it is the folder of the stage's artifacts
    kind: KindName
    needs: tuple[str, ...] = ()  # keys of stages that it waits for, and whose output it reads
    before: tuple[str, ...] = ()  # keys of stages that wait for it too, of those that wait for the one that names it


class StageInput(Message):
    """What an earlier stage has left."""

    kind: KindName
    folder: Path


class Runtime(Message):
    """How this worker computes; settings, not part of what is asked."""

    device: str = "auto"
    threads: int = 0  # 0: torch's own choice
    memory: int = 0  # bytes that the stage may use with all that it starts, mapped files apart; 0: the machine's
    training_processes: int | Literal["auto"] = 1  # that train together, data parallel
    cache: Path  # models by content; shared by all stages of this machine
    model_roots: tuple[Path, ...] = ()
    data_roots: tuple[Path, ...] = ()
    uploads: dict[UUID, UploadedFile] = Field(default_factory=dict)  # those that the stage's texts name, by id
    public_url: str | None = None  # how users reach the service; for the report's links


class StageSpec(Message):
    """One stage to run."""

    job_id: UUID
    key: str
    kind: KindName
    created_at: datetime  # of the job, for the report
    spec: CompressionSpec
    work: Path
    question: Question | None = None  # of a stage that answers one
    inputs: dict[str, StageInput] = Field(default_factory=dict)  # by the keys of the stages that this one needs
    runtime: Runtime

    @property
    def row(self) -> StageKind[Any]:
        return STAGE_KINDS[self.kind]


class DeviceUse(Message):
    """What a stage's process holds of its GPUs."""

    memory: int  # bytes that torch holds now
    peak: int  # the most that it held, of late
    busy: float | None = None  # share of the time that the current one was, 0 to 1; None: the driver was not asked


class ProgressEvent(Message):
    type: Literal["progress"] = "progress"
    done: int
    total: int
    unit: str  # "blocks", "steps", "runs"
    device: DeviceUse | None = None


class LogEvent(Message):
    type: Literal["log"] = "log"
    level: Literal["debug", "info", "warning", "error"] = "info"
    message: str


class MetricsEvent(Message):
    """Figures on the way, such as {"step": 5, "loss": 2.31}."""

    type: Literal["metrics"] = "metrics"
    data: dict[str, Any]


class TextEvent(Message):
    """The next piece of a text that is being written."""

    type: Literal["text"] = "text"
    variant: str  # who writes it
    text: str
    tokens: int  # that there are of it with this piece


class PartEvent(Message):
    """A part of the stage begins, or is over. Parts lie within each other; traces show them."""

    type: Literal["part"] = "part"
    name: str
    state: Literal["began", "succeeded", "failed"]
    at: float  # seconds since 1970


class ResultEvent(Message):
    """The stage has succeeded; `data` is its result as JSON: Checked, Scored … Report."""

    type: Literal["result"] = "result"
    data: dict[str, Any]


class StagesEvent(Message):
    """Stages that the job gets when the result of this one is committed."""

    type: Literal["stages"] = "stages"
    stages: tuple[NewStage, ...]


class ErrorEvent(Message):
    """The stage has failed; `problem` is an RFC 9457 object."""

    type: Literal["error"] = "error"
    problem: dict[str, Any]


StageEvent = Annotated[
    ProgressEvent | LogEvent | MetricsEvent | TextEvent | PartEvent | StagesEvent | ResultEvent | ErrorEvent,
    Field(discriminator="type"),
]

stage_event: TypeAdapter[StageEvent] = TypeAdapter(StageEvent)
