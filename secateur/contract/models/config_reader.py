"""Numbers and switches of a `config.json`, read with care."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateur.contract.errors import BadCheckpoint


class ConfigReader:
    """Reads whole numbers and switches of a config that may come from anyone."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        self._numbers: dict[str, set[int]] = {}

    def number(self, *keys: str, default: int | None = None) -> int:
        """The first of `keys` that is there and not null."""
        for key in keys:
            value = self.values.get(key)
            if value is not None:
                if type(value) is not int or not 0 <= value < 2**40:
                    raise BadCheckpoint.field(
                        "/model", f"config.json: {key} is not a size.", value=value, expected="a whole number"
                    )
                return value
        if default is None:
            raise BadCheckpoint.field("/model", f"config.json has no {keys[0]}.", expected="a whole number")
        return default

    def absent(self, key: str, default: int | None) -> int | None:
        """`default` if the entry is not there at all; null is another thing, by which classes mean "derive it"."""
        return None if key in self.values else default

    def switch(self, key: str, default: bool) -> bool:
        value = self.values.get(key)
        return default if value is None else bool(value)

    def numbers(self, key: str) -> set[int]:
        if key not in self._numbers:  # asked for once a block
            value = self.values.get(key)
            found = {item for item in value if type(item) is int} if isinstance(value, list) else set()
            self._numbers[key] = found
        return self._numbers[key]
