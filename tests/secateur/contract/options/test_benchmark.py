"""Options of the latency benchmark that go together."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from secateur.contract.options.benchmark import LatencyBenchmark


def test_compiling_needs_shapes_that_stay() -> None:
    assert LatencyBenchmark.model_validate({"compile": True, "static_cache": True}).compile
    with pytest.raises(ValidationError, match="`compile` needs `static_cache`"):
        LatencyBenchmark.model_validate({"compile": True})
