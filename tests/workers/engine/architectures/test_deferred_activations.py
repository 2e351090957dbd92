"""The activations that config classes check against are imported when a family checks, and are the real ones then."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from workers.engine.architectures.config import as_config
from secateur.contract.errors import BadCheckpoint

as_config({"model_type": "llama", "num_hidden_layers": 2})
print("transformers.activations" in sys.modules)

from transformers.utils import type_validators

[check] = type_validators.activation_fn_key().metadata["validator"]  # what a config class does with it
try:
    check("no such activation")
except ValueError as error:
    print("silu" in str(error))
from transformers.activations import ACT2FN

print(list(type_validators.ACT2FN) == list(ACT2FN), type_validators.ACT2FN["silu"] is not None)
print(type(sys.modules["transformers.activations"].ACT2FN["gelu"]).__name__)
"""


@pytest.mark.thorough
def test_imported_on_first_use() -> None:
    output = subprocess.check_output([sys.executable, "-c", SCRIPT], text=True)
    assert output.splitlines() == ["False", "True", "True True", "GELUActivation"]
