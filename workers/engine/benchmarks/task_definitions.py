"""Task definitions of a user: a folder of YAML files, read into plain data before the harness sees any of them.

The YAML is read here and not by the harness, which would import Python files that a definition names. What may stand in
one is in `task_schema.py`; here is what makes reading safe: sizes, depth, no aliases, and every path inside the folder.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from secateur.contract.errors import InvalidInput
from secateur.contract.numbers import size
from secateur.contract.shown import first_line, shortened
from secateur.contract.validation_errors import field_errors
from secateur.foreign_files.roots import NotUnderRoots, find_under
from workers.engine.benchmarks.task_schema import FORMATS, TaskDefinition
from workers.engine.plain_yaml import load_plain

MOST_FILES = 500  # definitions in a folder
MOST_BYTES = 256 * 1024  # of a definition
MOST_DATA_BYTES = 2**30  # of a data file
_CODE = frozenset(
    {"process_docs", "process_results", "custom_dataset", "class", "include", "use_prompt", "unsafe_code", "group"}
)
# the first bytes of gzip, zip, bzip2, xz, Zstandard, LZ4, 7z and RAR, all of which `datasets` unpacks
_PACKED = (
    b"\x1f\x8b",
    b"PK\x03\x04",
    b"BZh",
    b"\xfd7zXZ\x00",
    b"\x28\xb5\x2f\xfd",
    b"\x04\x22\x4d\x18",
    b"7z\xbc\xaf",
    b"Rar!",
)


def read_folder(folder: str, roots: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """The task definitions of a folder, by name, as the harness takes them, with their data files made absolute.

    Raises:
        InvalidInput: the folder is not under the roots, or a definition is broken, calls code, or reads files
            outside the folder.
    """
    path = find_folder(folder, roots)
    found: dict[str, dict[str, Any]] = {}
    for file in _definitions(path):
        definition = parse(_content(file, path), name=file.name)
        if definition.task in found:
            raise _refused(file.name, f"defines the task {definition.task}, which another file of the folder defines")
        found[definition.task] = _for_harness(definition, file.name, path)
    return found


def find_folder(folder: str, roots: Sequence[Path]) -> Path:
    """Where a folder of task definitions lies, symlinks followed.

    Raises:
        InvalidInput: it is not under the roots.
    """
    try:
        return find_under(folder, roots, fits=Path.is_dir)
    except NotUnderRoots as error:
        raise InvalidInput.field(
            "folder",
            f'There is no folder "{folder}" under the data roots.',
            value=folder,
            expected="a folder with YAML files of tasks",
        ) from error


def parse(content: bytes, *, name: str) -> TaskDefinition:
    """One definition.

    Raises:
        InvalidInput: it is no plain YAML, or has what is not taken.
    """
    try:
        found = load_plain(content.decode("utf-8"))
    except ValueError as error:
        raise _refused(name, f"is no plain YAML, and definitions may not call code: {first_line(error)}") from error
    if not isinstance(found, dict) or not isinstance(found.get("task"), str):
        raise _refused(name, "has no `task`, the name of one task")
    if code := sorted(_CODE.intersection(key for key in found if isinstance(key, str))):
        raise _refused(name, f"has `{code[0]}`: a definition may not call code or include other files")
    try:
        return TaskDefinition.model_validate(found)
    except ValidationError as error:
        raise _refused(name, _words(error)) from error


def _definitions(path: Path) -> list[Path]:
    try:
        files = [file for file in islice(path.iterdir(), 100_000) if file.suffix in (".yaml", ".yml")]
    except OSError as error:
        raise _refused(path.name, f"cannot be read: {error.strerror}") from error
    if len(files) > MOST_FILES:
        raise _refused(path.name, f"holds {len(files):,} definitions; at most {MOST_FILES} are read")
    return sorted(files)


def _content(file: Path, folder: Path) -> bytes:
    try:
        if not _inside(file, folder):
            raise _refused(file.name, "is not a file of its folder")
        with file.open("rb") as opened:
            content = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise _refused(file.name, f"cannot be read: {error.strerror}") from error
    if len(content) > MOST_BYTES:
        raise _refused(file.name, f"has more than {size(MOST_BYTES)}")
    return content


def _for_harness(definition: TaskDefinition, name: str, folder: Path) -> dict[str, Any]:
    found = definition.model_dump(exclude_unset=True)
    if definition.metadata is not None:
        version = definition.metadata.get("version", "")
        found["metadata"] = {"version": version if isinstance(version, str | int | float) else ""}
    if definition.dataset_path in FORMATS:
        data = found["dataset_kwargs"]
        data["data_files"] = _absolute(data["data_files"], name, folder)
    elif Path(definition.dataset_path).exists():  # `datasets` would read it before it looks at the hub
        raise _refused(name, f'names the `dataset_path` "{definition.dataset_path}", which is a folder here')
    return found


def _absolute(files: Any, name: str, folder: Path) -> Any:
    if isinstance(files, dict):
        return {split: _absolute(value, name, folder) for split, value in files.items()}
    if isinstance(files, list):
        return [_absolute(value, name, folder) for value in files]
    file = folder / files
    if not _inside(file, folder):
        raise _refused(name, f'names the data file "{files}", which is not in its folder')
    with file.open("rb") as opened:
        begin = opened.read(300)
        if begin.startswith(_PACKED) or begin[257:262] == b"ustar":
            raise _refused(name, f'names the data file "{files}", which is compressed or packed')
    if file.stat().st_size > MOST_DATA_BYTES:
        raise _refused(name, f'names the data file "{files}", which has more than {size(MOST_DATA_BYTES)}')
    return str(file.resolve())


def _inside(file: Path, folder: Path) -> bool:
    """Whether it is a plain file in its folder or below, symlinks followed."""
    try:
        real = file.resolve()
        return real.is_relative_to(folder) and stat.S_ISREG(real.stat().st_mode)
    except (OSError, ValueError, RuntimeError):
        return False


def _words(error: ValidationError) -> str:
    """What is wrong with a wrong field of a definition; of one that may have several shapes, with that which it has.

    Each shape has its complaint, and the one that comes from deepest within the field is of the shape that was meant.
    """
    first = max(error.errors(include_url=False), key=lambda found: len(found["loc"]))
    parts = (part for part in map(str, first["loc"]) if "constrained-str" not in part)
    place = shortened(".".join(parts))
    (told,) = field_errors(TaskDefinition, [first])
    if not place:
        return told.detail
    if first["type"] == "extra_forbidden":
        return f"has `{place}`, which is not taken"
    if first["type"] == "missing":
        return f"has no `{place}`"
    own = told.detail if first["type"] == "value_error" else f"{told.expected} is expected"
    return f"has a `{place}` that cannot be used: {own}"


def _refused(name: str, what: str) -> InvalidInput:
    return InvalidInput.field("folder", f"{name} {what}.", value=name, expected="a plain task definition")
