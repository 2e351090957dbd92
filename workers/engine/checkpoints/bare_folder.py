"""A checkpoint as transformers should see it: its config, its weights, and nothing that lies beside them.

`from_pretrained` looks around in the folder that it is given. An adapter left beside merged weights is put on them once
more, and a config can point to another file. So it is given a folder with links to the weights, which Secateur has
checked, and the config as Secateur reads it; what is measured is then what is scored, pruned and trained.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workers.engine.checkpoints.checkpoint import CONFIG_FILE, INDEX_FILE, Checkpoint
from workers.engine.checkpoints.generation_file import GENERATION_FILE
from workers.engine.checkpoints.json_file import write_json


@contextmanager
def bare_folder(checkpoint: Checkpoint) -> Iterator[Path]:
    """The folder, until the context ends; a file that was opened or mapped by then stays readable."""
    with tempfile.TemporaryDirectory(prefix="secateur-") as made:
        folder = Path(made)
        write_json(folder / CONFIG_FILE, checkpoint.config)
        names = [file.name for file in checkpoint.files()]
        for name in [*names, *([INDEX_FILE] if len(names) > 1 else []), GENERATION_FILE]:
            if (checkpoint.path / name).is_file():
                (folder / name).symlink_to((checkpoint.path / name).resolve())
        yield folder
