"""The models that a job names, as every stage finds them: resolved once, pinned to their commits from then on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from secateur.contract.errors import StageFailed
from secateur.contract.options.texts import Calibration
from secateur.contract.results import ModelInfo, SourceFile, TextInfo
from secateur.contract.spec import HubModel, LocalModel
from workers.engine.architectures.config import as_config
from workers.engine.checkpoints.check_fit import check_fit
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.gguf_file import read_gguf_header
from workers.engine.checkpoints.licence import licence_of_folder, licence_of_gguf
from workers.engine.checkpoints.parameters import count_parameters
from workers.engine.checkpoints.resolve import find_model, resolve
from workers.engine.model.loading import load_model
from workers.engine.runtime import Machine, prepare
from workers.engine.text.calibration import token_batch
from workers.engine.text.text_source import TextSource
from workers.stages.context import StageContext, part
from workers.stages.fields import TARGET_MODEL, of_text, told_at


@dataclass(frozen=True)
class Original:
    """The original's checkpoint on this machine, and what the report says of it."""

    checkpoint: Checkpoint
    info: ModelInfo

    @property
    def path(self) -> Path:
        """The checkpoint's folder, for what loads it as a whole."""
        return self.checkpoint.path


def prepare_machine(context: StageContext) -> Machine:
    """Set the process up as the worker's settings and the spec say."""
    runtime, spec = context.stage.runtime, context.stage.spec
    return prepare(device=runtime.device, dtype=spec.dtype, threads=runtime.threads, seed=spec.seed)


@part("open the model")
def open_original(context: StageContext) -> Original:
    """The model that the job is about, as `_opened` finds it."""
    return _opened(context, context.stage.spec.model, context.known_model())


@part("open the target model")
def open_target(context: StageContext) -> Original:
    """The model that a draft is for, as `_opened` finds it; its errors are told at its own fields."""
    target = context.stage.spec.target_model
    assert target is not None, "a job that makes a draft names its target"
    with told_at(TARGET_MODEL):
        return _opened(context, target, context.known_target())


def _opened(context: StageContext, model: HubModel | LocalModel, first: ModelInfo | None) -> Original:
    """Resolve a model that the spec names.

    The first stage of a job resolves a branch or a tag to a commit. Later ones ask for that commit, and fail where
    a local model is no longer the one that the job began with.

    Args:
        first: the model as an earlier stage of the job found it.

    Raises:
        InvalidInput: there is no such model.
        BadCheckpoint: its files are broken or unsafe, or its tensors are not those of its config.
        Unavailable: the hub does not answer.
        StageFailed: the local files have changed since the job began.
    """
    runtime = context.stage.runtime
    if isinstance(model, HubModel) and first is not None:
        model = model.model_copy(update={"revision": first.revision})
    found = resolve(model, cache=runtime.cache, roots=runtime.model_roots, progress=context.progress)
    if first is not None:
        if found.fingerprint != first.fingerprint:
            raise StageFailed(
                f"The model {found.id} has changed since this job began, so its results would not fit together. "
                "Submit a new job."
            )
        return Original(found.checkpoint, first)
    checkpoint = found.checkpoint
    check_fit(checkpoint)
    count = count_parameters(checkpoint.config)
    file = _gguf_of(context, model)
    header = read_gguf_header(file) if file else None
    info = ModelInfo(
        id=found.id,
        revision=found.revision,
        fingerprint=found.fingerprint,
        family=str(checkpoint.config["model_type"]),
        blocks=len(count.blocks),
        parameters=count.total,
        bytes_on_disk=checkpoint.total_bytes,
        file=SourceFile(bytes=header.file_bytes, type=header.main_type) if header else None,
        licence=licence_of_gguf(header) if header else licence_of_folder(checkpoint.path),
    )
    return Original(checkpoint, info)


def source_gguf(context: StageContext) -> Path | None:
    """The GGUF file that the job's model came in, if it did: what the checkpoint made of it no longer has."""
    return _gguf_of(context, context.stage.spec.model)


def _gguf_of(context: StageContext, model: HubModel | LocalModel) -> Path | None:
    if not isinstance(model, LocalModel):
        return None
    found = find_model(model.path, context.stage.runtime.model_roots)
    return found if found.is_file() else None


def text_source(context: StageContext, original: Original, machine: Machine) -> TextSource:
    """Where this job's token batches come from."""
    runtime = context.stage.runtime
    return TextSource(
        checkpoint=original.path,
        config=as_config(original.checkpoint.config),
        fingerprint=original.info.fingerprint,
        load=lambda: load_model(original.checkpoint, device=machine.device, dtype=machine.dtype),
        machine=machine,
        data_roots=runtime.data_roots,
        cache=runtime.cache,
        seed=context.stage.spec.seed,
        uploads=runtime.uploads,
    )


@part("calibration text")
def calibration_tokens(
    context: StageContext, original: Original, machine: Machine, calibration: Calibration, *, pointer: str
) -> tuple[Tensor, TextInfo]:
    """The token batch that a part of the spec asks for: (samples, tokens), and the text's description.

    Args:
        pointer: of `calibration` in the spec.

    Raises:
        InvalidInput: the text is too short or cannot be read.
        Unavailable: the hub does not answer.
    """
    with told_at(of_text(pointer)):
        return token_batch(
            text_source(context, original, machine),
            calibration.text,
            purpose="calibration",
            samples=calibration.samples,
            tokens=calibration.tokens,
            bos=calibration.bos,
            progress=context.progress,
        )
