"""generation_config.json: what is wrong with it is told by its entry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from secateur.contract.errors import BadCheckpoint
from workers.engine.checkpoints.generation_file import check_generation_file


@pytest.mark.parametrize(
    ("written", "value", "says"),
    [
        ({"eos_token_id": "x"}, "x", "`eos_token_id` of generation_config.json is no token's id."),
        ({"pad_token_id": True}, True, "`pad_token_id` of generation_config.json is no token's id."),
        ({"bos_token_id": [[1]]}, [[1]], "`bos_token_id` of generation_config.json is no token's id."),
        (
            {"temperature": 0.5, "cache_implementation": "frob"},
            "frob",
            "`cache_implementation` of generation_config.json cannot be used: ",
        ),
    ],
)
def test_the_entry_is_named(written: dict[str, Any], value: Any, says: str, tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps(written))
    with pytest.raises(BadCheckpoint) as caught:
        check_generation_file(tmp_path)
    assert caught.value.detail.startswith(says)
    (error,) = caught.value.errors
    assert (error.pointer, error.value) == ("model", value)
    assert error.expected


@pytest.mark.parametrize("written", [{}, {"eos_token_id": [1, 2], "pad_token_id": None, "bos_token_id": 0}])
def test_what_is_sound_passes(written: dict[str, Any], tmp_path: Path) -> None:
    check_generation_file(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps(written))
    check_generation_file(tmp_path)
