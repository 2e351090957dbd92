"""The settings of the environment as a command needs them: checked, with what is wrong named, and apart from the
folder in which the command was called.

A command that runs the service leaves the current folder: what lies there could otherwise be taken for a part of it (a
Python module, a configuration file, a folder that is called like a hub's model). Paths of options and of the
environment that were meant from there are made absolute first.
"""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from secateur.cli.session import Exit, fail, usage

if TYPE_CHECKING:
    from app.settings import Settings

# Variables of this service and of libraries beneath it that name files and folders.
_PATHS = re.compile(
    r"SECATEUR_(?:DATA_DIR|MODEL_ROOTS|DATA_ROOTS)|PYTHONPATH|LD_LIBRARY_PATH|TE?MP(?:DIR)?|XDG_\w+_(?:HOME|DIR)"
    r"|(?:HF|HUGGINGFACE|TRANSFORMERS|TORCH|TORCHINDUCTOR|TRITON|NLTK|CUDA|MPL|AWS|SSL|REQUESTS|CURL)\w*"
    r"_(?:HOME|CACHE|CACHE_DIR|DIR|DATA|FILE|PATH|BUNDLE|CONFIG|CONFIGDIR)|MPLCONFIGDIR"
)


def put(**values: Any) -> None:
    """Put options into the environment, where the settings of this process and of its children are read."""
    for name, value in values.items():
        if value is not None:
            os.environ[f"SECATEUR_{name.upper()}"] = str(value)


def joined(paths: list[Path] | None) -> str | None:
    """Folders as their variable holds them."""
    return os.pathsep.join(str(path.absolute()) for path in paths) if paths else None


def leave_current_folder() -> None:
    """Work in the root folder from now on, and have the children look for modules where they are installed."""
    make_absolute(os.environ, Path.cwd())
    os.environ["PYTHONSAFEPATH"] = "1"
    os.chdir("/")


def make_absolute(environment: MutableMapping[str, str], folder: Path) -> None:
    """Relative paths in the environment, as they were meant from `folder`."""
    for name, value in environment.items():
        if value and _PATHS.fullmatch(name):
            parts = [str(folder / Path(part).expanduser()) for part in value.split(os.pathsep) if part]
            environment[name] = os.pathsep.join(parts)


def settings_of_environment(*, needs_urls: bool = False) -> Settings:
    """The settings of the environment; what is wrong with them is printed, and ends the command."""
    from pydantic import ValidationError

    from app.settings import Settings
    from secateur.contract.validation_errors import field_errors

    try:
        settings = Settings()
    except ValidationError as error:
        for problem in field_errors(Settings, error.errors(include_url=False)):
            name = problem.pointer.split("/")[1:2]
            detail = problem.detail.replace(f"`{name[0]}`", "it", 1) if name else problem.detail
            fail(f"SECATEUR_{name[0].upper()}: {detail}" if name else detail)
        raise typer.Exit(Exit.USAGE) from None
    missing = [name for name in ("database_url", "redis_url") if getattr(settings, name) is None]
    if needs_urls and missing:
        names = " and ".join(f"SECATEUR_{name.upper()}" for name in missing)
        raise usage(f"set {names}, or run `secateur up`, which starts private servers")
    return settings


def check_folders(settings: Settings) -> None:
    """Name every root that is no folder this account can read; such a one would fail jobs, and long after."""
    wrong = []
    for option, name, roots in (
        ("--model-root", "SECATEUR_MODEL_ROOTS", settings.model_roots),
        ("--data-root", "SECATEUR_DATA_ROOTS", settings.data_roots),
    ):
        for root in roots:
            if (reason := unusable(root)) is not None:
                wrong.append(f"{root}, which {option} or {name} names, {reason}")
    for line in wrong:
        fail(line)
    if wrong:
        raise typer.Exit(Exit.USAGE)


def check_store(settings: Settings) -> None:
    """Name an address of the store that cannot be read."""
    from app.blobs.store import open_store

    try:
        open_store(settings.store_url)
    except ValueError as error:
        raise usage(str(error)) from None


def unusable(folder: Path) -> str | None:
    """Why this account cannot read the folder, as the end of a sentence; None where it can."""
    try:
        if not folder.is_dir():
            return "is not a folder" if folder.exists() else "does not exist"
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"
    return None if os.access(folder, os.R_OK | os.X_OK) else "cannot be read by this account"
