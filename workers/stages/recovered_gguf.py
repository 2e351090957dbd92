"""The model of a job that came as a GGUF file, handed out as one again: of the same type, or the nearest one written.

The pruned file is a copy of the original's bytes (`engine/pruning/gguf_depth.py`). What a recovery has changed cannot
be copied; it is quantised anew, with the file's own tokenizer.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from secateur.contract.errors import UnsupportedModel
from secateur.contract.results import PrunedFile
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.gguf_file import read_gguf_header
from workers.engine.quantise.gguf_export import TYPES, export_gguf
from workers.stages.context import StageContext
from workers.stages.original import source_gguf

FOLDER = "gguf"  # of the stage's folder


def write_as_it_came(context: StageContext, checkpoint: Path) -> tuple[PrunedFile | None, list[str]]:
    """Write the checkpoint as a GGUF file if the job's model came as one.

    Returns:
        The file, relative to the stage's folder, and what is to be said of it. There is none where llama.cpp would
        read another model from it; the note says why.
    """
    source = source_gguf(context)
    if source is None:
        return None, []
    header = read_gguf_header(source)
    came = header.main_type
    type_name = came if came in TYPES else "F16" if came == "F32" else "Q8_0"
    target = context.out / FOLDER / f"{source.stem}-recovered.gguf"
    shutil.rmtree(target.parent, ignore_errors=True)  # of an attempt that was killed
    try:
        export_gguf(Checkpoint.open(checkpoint), target, type_name=type_name, tokenizer_from=source)
    except UnsupportedModel as error:
        return None, [f"The recovered model is not handed out as a GGUF file. {error.detail}"]
    notes = []
    if type_name != came:
        notes.append(
            f"The model came in {came}, which is not written here; its GGUF file after recovery is {type_name}."
        )
    file = PrunedFile(path=f"{FOLDER}/{target.name}", bytes_before=header.file_bytes, bytes_after=target.stat().st_size)
    return file, notes
