"""What can be told about a spec from the API host: the local model, the local texts and the data sets that it names.

A hub model is looked up by its stage. On a host that does not see the workers' files, SECATEUR_CHECK_LOCAL=false
leaves local files to the stages too, which check everything again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.db import datasets
from app.db.tables.datasets import Dataset
from app.services.check_target import check_joint_target, check_target
from app.services.local_files import LocalModelInfo, find_under, inspect_model
from app.settings import Settings
from secateur.contract.datasets import DatasetKind
from secateur.contract.depth import check_depth, not_gguf
from secateur.contract.errors import FieldError, InvalidInput
from secateur.contract.gate_needs import never_passed
from secateur.contract.joint import check_joint
from secateur.contract.models.family_limits import check_family
from secateur.contract.models.mixtures import check_mixture
from secateur.contract.models.positions import positions_of, too_long
from secateur.contract.models.quantised import check_quantised, check_quantiser
from secateur.contract.options.joint import JointPruning
from secateur.contract.options.pruning import DepthPruning, SubBlockPruning
from secateur.contract.options.texts import LocalText, UploadText
from secateur.contract.options.training import TrainedRecovery
from secateur.contract.spec import CompressionSpec, LocalModel
from secateur.contract.sub_blocks import check_units
from secateur.contract.texts import HEAD_BYTES, not_text, texts_of
from secateur.contract.vocabulary import check_vocabulary

TARGET_PATH = "/target_model/path"


def check_spec(spec: CompressionSpec, settings: Settings) -> LocalModelInfo | None:
    """Refuse what no stage could do; what was seen of the local model, if it is one and was looked at.

    Raises:
        InvalidInput: more blocks than the model has, a path outside the roots, a file that is not there, a gate that
            nothing that the job measures can pass.
        BadCheckpoint, UnsupportedModel: of the local model.
    """
    if isinstance(spec.pruning, DepthPruning) and spec.pruning.gguf and not isinstance(spec.model, LocalModel):
        raise not_gguf()
    errors = never_passed(spec)
    if not settings.check_local:
        _refuse(errors)
        return None
    for place, text in texts_of(spec, LocalText):
        pointer = f"{place}/path"
        try:
            real = find_under(
                text.path, settings.data_roots, pointer=pointer, what="text", setting="SECATEUR_DATA_ROOTS"
            )
        except InvalidInput as error:
            errors.extend(error.errors)
        else:
            what = _not_text(real)
            if what is not None:
                errors.append(FieldError(pointer, f"the file {what}", text.path, "a UTF-8 text file"))
    try:
        _check_task_folder(spec, settings)
    except InvalidInput as error:
        errors.extend(error.errors)
    found = None
    try:
        found = _check_model(spec, settings)
    except InvalidInput as error:
        if not errors:
            raise
        errors = [*error.errors, *errors]
    try:
        look_at_target(spec, settings)
    except InvalidInput as error:
        if not errors:
            raise
        errors = [*errors, *error.errors]
    _refuse(errors)
    return found


def look_at_target(spec: CompressionSpec, settings: Settings) -> LocalModelInfo | None:
    """What can be seen of the model that a draft is for, where that is a local one and this host sees it.

    Raises:
        InvalidInput, BadCheckpoint, UnsupportedModel: of its own fields.
    """
    target = spec.target_model
    if not isinstance(target, LocalModel) or not settings.check_local:
        return None
    info = inspect_model(target.path, settings.model_roots, pointer=TARGET_PATH)
    if info.config is not None:
        check_quantiser(info.config, pointer=TARGET_PATH)
    return info


def _not_text(path: Path) -> str | None:
    """Why there is no text at `path`, as far as a look at its beginning tells."""
    if not path.is_file():
        return "is no file"
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        return f"cannot be opened: {error.strerror}"
    return not_text(head) if head else "is empty"


def _check_task_folder(spec: CompressionSpec, settings: Settings) -> None:
    tasks = spec.benchmark.tasks
    if tasks is None or tasks.folder is None:
        return
    pointer = "/benchmark/tasks/folder"
    real = find_under(
        tasks.folder, settings.data_roots, pointer=pointer, what="task folder", setting="SECATEUR_DATA_ROOTS"
    )
    if not real.is_dir():
        raise InvalidInput.field(pointer, "the path is no folder", value=tasks.folder, expected="a folder of tasks")


def check_uploads(session: Session, spec: CompressionSpec, named: Sequence[tuple[str, UploadText]]) -> None:
    """Refuse data sets that there are not, or that hold what the place cannot use, among those that the spec names.

    They cannot be deleted until the transaction ends.

    Raises:
        InvalidInput: names every such text.
    """
    found = datasets.hold(session, {text.id for _, text in named})
    errors = [error for place, text in named if (error := _upload_error(spec, place, text, found.get(text.id)))]
    _refuse(errors)


def _upload_error(spec: CompressionSpec, place: str, text: UploadText, dataset: Dataset | None) -> FieldError | None:
    if dataset is None:
        detail = f"there is no data set {text.id}"
        return FieldError(f"{place}/id", detail, str(text.id), "the id of one of GET /datasets")
    if place.endswith("/prompts"):  # of any kind
        return None
    trained = spec.recovery if isinstance(spec.recovery, TrainedRecovery) else None  # what reads rows
    format = trained.format if trained is not None and place == "/recovery/text" else None
    wanted = DatasetKind(format) if format is not None else DatasetKind.TEXT
    if dataset.kind is wanted:
        return None
    detail = f"the data set {dataset.name} holds rows of the kind {dataset.kind.value}"
    if format is not None:
        return FieldError("/recovery/format", detail, format, dataset.kind.value)
    return FieldError(f"{place}/id", detail, str(text.id), "a data set of plain text")


def _refuse(errors: list[FieldError]) -> None:
    if errors:
        raise InvalidInput.fields(errors)


def _check_model(spec: CompressionSpec, settings: Settings) -> LocalModelInfo | None:
    if not isinstance(spec.model, LocalModel):
        return None
    info = inspect_model(spec.model.path, settings.model_roots)
    if isinstance(spec.pruning, DepthPruning) and spec.pruning.gguf and info.config is not None:
        raise not_gguf()
    if info.config is not None:
        check_config(spec, info.config, pointer="/model/path")
    if info.blocks is None:
        return info
    if isinstance(spec.pruning, DepthPruning):
        if spec.pruning.target is not None or spec.pruning.left_open:
            check_target(spec.pruning, info, plus=spec.scoring.plus)
        check_depth(spec.pruning, info.blocks, plus=spec.scoring.plus)
    if isinstance(spec.pruning, SubBlockPruning):
        check_units(spec.pruning, info.blocks)
    if isinstance(spec.pruning, JointPruning):
        check_joint(spec.pruning, info.blocks)
        check_joint_target(spec.pruning, info)
    return info


def check_config(spec: CompressionSpec, config: Mapping[str, Any], *, pointer: str) -> None:
    """Refuse what the model of this config.json, which came from the field `pointer`, cannot give.

    Raises:
        InvalidInput, BadCheckpoint, UnsupportedModel: names every such field.
    """
    check_quantiser(config, pointer=pointer)
    check_quantised(spec, config)
    check_family(spec, config)
    check_mixture(spec, config)
    check_vocabulary(spec, config)
    _refuse(too_long(spec, positions_of(config)))
