"""Configs whose class would make lists of a number that they claim: refused by a process with little memory."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secateur.contract.errors import BadCheckpoint
from workers.engine.architectures.config import as_config

LLAMA: dict[str, Any] = {"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
NEO: dict[str, Any] = {"model_type": "gpt_neo", "num_layers": 2}


@pytest.fixture(autouse=True)
def no_trial_of_configs() -> None:
    """Here they are tried in a child first, as in a stage."""


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """This process could not build them either, so that a fault here takes nothing else along."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 30), hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_a_number_that_is_counted_with_is_named() -> None:
    with pytest.raises(BadCheckpoint, match=r"its entry attention_types claims too much.*ran out of memory") as caught:
        as_config({**NEO, "attention_types": [[["global", "local"], 10**9]]})
    (error,) = caught.value.errors
    assert (error.pointer, error.value) == ("model", [[["global", "local"], 10**9]])


@pytest.mark.parametrize("config", [LLAMA, {**NEO, "attention_types": [[["global"], 2]]}])
def test_configs_that_are_sound(config: dict[str, Any]) -> None:
    assert as_config(config).num_hidden_layers == 2
