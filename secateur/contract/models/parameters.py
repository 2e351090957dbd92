"""How many parameters a model has, from its `config.json` alone: by the formula in its family's row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from secateur.contract.errors import BadCheckpoint
from secateur.contract.models.config_limits import check_config_limits
from secateur.contract.models.config_reader import ConfigReader
from secateur.contract.models.families import family_of
from secateur.contract.models.formulas import Formula, ParameterCount

T = TypeVar("T")


def parameter_count(config: Mapping[str, Any]) -> ParameterCount | None:
    """Parameters of the model that `config.json` describes, or None where no formula is known for its family.

    Raises:
        BadCheckpoint: an entry that the formula needs is missing or no whole number, or one is beyond every model.
    """
    check_config_limits(config)
    return _by_formula(config, lambda formula, reader: formula.count(reader))


def key_value_size(config: Mapping[str, Any]) -> int | None:
    """Numbers that the cache keeps for a token in one block, keys and values, or None as `parameter_count` does.

    Raises:
        BadCheckpoint: as `parameter_count` does.
    """
    return _by_formula(config, lambda formula, reader: formula.cached(reader))


def _by_formula(config: Mapping[str, Any], ask: Callable[[Formula, ConfigReader], T]) -> T | None:
    family = family_of(config.get("model_type"))
    if family is None:
        return None
    try:
        return ask(family.sizes, ConfigReader(config))
    except ZeroDivisionError:
        raise BadCheckpoint.field("/model", "config.json declares no attention heads.") from None
