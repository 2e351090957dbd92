"""Paths that users name: each must lie under one of the folders that the service was given, symlinks followed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path


class Fault(StrEnum):
    """Why a path is refused."""

    UNUSABLE = "unusable"  # too long, a zero byte, a loop of symlinks
    OUTSIDE = "outside"  # of all roots
    MISSING = "missing"


class NotUnderRoots(ValueError):
    """A path that cannot be taken."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"the path is {fault}")
        self.fault = fault


def find_under(path: str, roots: Sequence[Path], *, fits: Callable[[Path], bool] = Path.exists) -> Path:
    """The real path of what `path` names: absolute, or relative to one of `roots`, the first that has it.

    Args:
        fits: whether something that is there is what was meant, such as `Path.is_file`.

    Raises:
        NotUnderRoots: there is none.
    """
    try:
        reals = [root.resolve() for root in roots]
        candidates = [(root / path).resolve() for root in reals]  # an absolute path replaces the root
        inside = [candidate for candidate in candidates if any(candidate.is_relative_to(root) for root in reals)]
        found = next((candidate for candidate in inside if fits(candidate)), None)
    except (OSError, ValueError, RuntimeError) as error:
        raise NotUnderRoots(Fault.UNUSABLE) from error
    if found is None:
        raise NotUnderRoots(Fault.MISSING if inside else Fault.OUTSIDE)
    return found


def lies_under(path: Path, roots: Sequence[Path]) -> bool:
    """Whether a path lies under one of the roots, symlinks followed. OSError or RuntimeError where they cannot be."""
    real = path.resolve()
    return any(real.is_relative_to(root.resolve()) for root in roots)
