"""Config classes without the model classes: transformers' table of activations is imported when it is first looked at.

Some config classes, Llama's among them, check their entries with `transformers.utils.type_validators`. That module
imports the table of activations for one of its checks, and with it accelerate, sympy and `torch.distributed.tensor`:
60 MB and a second, as much as all that pruning by header rewrite needs beside torch. Here the validators are given a
table that fetches the real one on first use, so the check is the same, and a family that does not have it does not pay.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

_ACTIVATIONS = "transformers.activations"
_VALIDATORS = "transformers.utils.type_validators"


class _Activations(Mapping[str, Any]):
    """`transformers.activations.ACT2FN`, imported when it is read."""

    def _table(self) -> Mapping[str, Any]:
        table: Mapping[str, Any] = importlib.import_module(_ACTIVATIONS).ACT2FN
        return table

    def __getitem__(self, name: str) -> Any:
        return self._table()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table())

    def __len__(self) -> int:
        return len(self._table())


def defer_activations() -> None:
    """Import the validators of config classes, and leave the activations for later where that is still possible."""
    if _VALIDATORS in sys.modules or _ACTIVATIONS in sys.modules:
        return
    stand_in = ModuleType(_ACTIVATIONS)
    vars(stand_in)["ACT2FN"] = _Activations()
    sys.modules[_ACTIVATIONS] = stand_in
    try:
        importlib.import_module(_VALIDATORS)
    finally:
        del sys.modules[_ACTIVATIONS]  # whoever imports it from now on gets the real one
