"""The key under which identical stages of different jobs share one result.

It is a hash over all that decides the result: the code and its libraries, the model and the texts as they lie on disk
or the hub's commit, the options, the kind of device and the dtype that were used, and the files of the stages before.
Where one of these could change behind the key (a branch on the hub, a path that does not exist) there is no key, and
nothing is shared. Measurements are shared where both jobs ask for it, and on one machine: a benchmark's figures belong
to that and to the hour. Of a plan, which is shared on its machine, the number of blocks alone parts the keys of later
stages. A report belongs to its job. What a job's check has seen changes no result, so neither is it shared nor does it
part two keys.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from secateur.contract.named_texts import NAMED_TEXTS
from secateur.contract.protocol import StageSpec, WorkingDevice
from secateur.contract.stage_kinds import TARGET_MODEL
from workers.machine.libraries import versions

_COMMIT = re.compile(r"[0-9a-f]{40}")
_CODE = ("workers.engine", "workers.stages", "workers.stage", "secateur.contract", "secateur.foreign_files")
_MOST_FILES = 10_000


def dedupe_key(
    spec: StageSpec,
    *,
    device: WorkingDevice,
    fingerprints: Mapping[str, str],
    inputs: Mapping[str, Sequence[tuple[str, str]]],
) -> str | None:
    """The key, or None where the result must not be shared.

    Args:
        device: what the stage computes on; `auto` is no answer, since it is something else on every worker.
        fingerprints: of the models, by their fields in the spec, as earlier stages of the job have reported them.
        inputs: of each stage that it needs and whose result decides anything, the path and sha256 of every file, or
            name and value of what alone decides.
    """
    own = spec.row.decides(spec.spec) if spec.row.decides is not None else None
    if own is None:
        return None
    asked = spec.spec.model_dump(mode="json", include={"model", "seed", "dtype"})
    if asked["dtype"] == "auto":
        asked["dtype"] = device.dtype
    named = {"model": asked["model"], **{name: own[name] for name in (TARGET_MODEL,) if name in own}}
    models = [fingerprints.get(name) or _identity(source, spec.runtime.model_roots) for name, source in named.items()]
    parts = {name: part for name, part in own.items() if name not in named}
    texts = [_identity(source, spec.runtime.data_roots) for source in sources(parts)]
    if None in models or None in texts:
        return None
    decides: dict[str, Any] = {
        "code": engine_version(),
        "stage": [spec.kind, spec.key],  # of two of a kind, each may look for what an input says of it
        "asked": asked | own,
        "models": models,
        "texts": texts,
        "device": device.kind,
        "inputs": {key: sorted(files) for key, files in inputs.items()},
    }
    if spec.row.of_machine:
        decides["machine"] = [platform.node(), spec.runtime.threads]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=1)
def engine_version() -> str:
    """A hash over the code of the engine and the versions of the libraries that it computes with."""
    digest = hashlib.sha256()
    for name in _CODE:
        path = code_of(name)
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            inside = file.relative_to(path).as_posix()
            digest.update(f"{name} {inside}\0".encode() + file.read_bytes())
    digest.update(json.dumps(versions(), sort_keys=True).encode())
    return digest.hexdigest()


def code_of(name: str) -> Path:
    """The file of a module, or the folder of a package; nothing of it is imported."""
    found = find_spec(name)
    if found is None:
        raise ModuleNotFoundError(f"no module named {name!r}", name=name)
    places = found.submodule_search_locations
    return Path(next(iter(places)) if places is not None else str(found.origin)).resolve()


def sources(part: Any) -> Iterator[dict[str, Any]]:
    """The models and texts that a part of the spec names, by their `source`."""
    if isinstance(part, dict):
        if "source" in part:
            yield part
        for item in part.values():
            yield from sources(item)
    elif isinstance(part, list):
        for item in part:
            yield from sources(item)


def _identity(source: Mapping[str, Any], roots: Sequence[Path]) -> str | None:
    """What cannot stay the same while the content changes; None if nothing is known to be so."""
    match source["source"]:
        case "self" | "answers":
            return "self"  # written by the model, which is in the key; prompts that are given are a source themselves
        case "blend":
            return "blend"  # its parts are sources themselves
        case "hub":
            revision = source.get("revision")
            return f"hub {source['id']} {revision}" if revision and _COMMIT.fullmatch(revision) else None
        case "named":
            revision = NAMED_TEXTS[source["name"]].revision
            return f"named {revision}" if revision else None
        case "upload":
            return f"upload {source['id']}"  # whose content never changes
        case "local":
            return _on_disk(source["path"], roots)
    return None


def _on_disk(path: str, roots: Sequence[Path]) -> str | None:
    """Names, sizes and times of change (nanoseconds) of the file, or of every file of the folder."""
    found = next((place for root in roots if (place := root / path).exists()), None)
    if found is None:
        return None
    files = sorted(file for file in found.rglob("*") if file.is_file()) if found.is_dir() else [found]
    if len(files) > _MOST_FILES:
        return None
    stats = [(str(file.relative_to(found)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return json.dumps([str(found.resolve()), stats])
