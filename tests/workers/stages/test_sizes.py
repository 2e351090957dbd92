"""A job that hands out models between the recovered one and the original, and jobs for which there are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from secateur.contract.errors import InvalidInput
from secateur.contract.options.sizes import Sizes
from secateur.contract.spec import CompressionSpec
from secateur.contract.validation_errors import field_errors
from tests.fixtures.whole_job import Job, run_job
from workers.stages.sizes import chosen

SPEC: dict[str, Any] = {
    "model": {"source": "local", "path": "tiny"},
    "pruning": {"kind": "depth", "drop": [2, 4, 5]},
    "recovery": {"kind": "healing", "samples": 8, "tokens": 16},
    "sizes": {},
    "benchmark": {
        "latency": None,
        "perplexity": {"tokens": 16, "windows": 2},
        "samples": None,
        "generation": None,
    },
}


def test_a_job_has_them_as_variants(tiny_checkpoint: Callable[..., Path]) -> None:
    root = tiny_checkpoint().parent
    results, folders = run_job(root, SPEC)
    (made,) = results["sizes"].models
    assert (made.name, made.blocks, made.put_back, made.originals) == ("7-blocks", 7, [4, 5], (3, 7))
    measured = {variant.variant: variant for variant in results["benchmark"].variants}
    assert list(measured) == ["original", "pruned", "recovered", "recovered-7-blocks"]
    between = measured["recovered-7-blocks"]
    assert (between.blocks, between.parameters, between.bytes_on_disk) == (7, made.parameters, made.bytes)
    assert between.fidelity
    assert measured["recovered"].parameters < made.parameters < measured["original"].parameters
    weights = load_file(folders["sizes"] / "7-blocks" / "checkpoint" / "model.safetensors")
    original = load_file(root / "tiny" / "model.safetensors")
    recovered = load_file(folders["recover"] / "checkpoint" / "model.safetensors")
    down = "model.layers.{}.mlp.down_proj.weight"
    numbers = [0, 1, 3, 4, 5, 6, 7]  # of the original's blocks
    for new, old in enumerate(numbers):
        source, number = (original, old) if old >= 3 else (recovered, new)
        assert torch.equal(weights[down.format(new)], source[down.format(number)])
    page = (folders["report"] / "report.html").read_text()
    assert "recovered-7-blocks" in page
    assert "4, 5 put back; 3 to 7 are the original" in page
    assert "put back" in (folders["report"] / "report.md").read_text()
    card = (folders["report"] / "cards" / "sizes" / "7-blocks" / "checkpoint" / "README.md").read_text()
    assert "## Put back" in card
    assert "4, 5 put back" in (folders["sizes"] / "7-blocks" / "checkpoint" / "README.md").read_text()


def test_what_cannot_be_had_is_the_next_size_or_said() -> None:
    dropped = [1, 3, 4, 6]  # of 10 blocks: 6 are left, and 7 or 9 can be had from the end
    found, notes = chosen(Sizes(blocks=(7, 8, 9)), 10, dropped)
    assert [model.blocks for model in found] == [7, 9]
    assert [note.split(",")[0] for note in notes] == ["In place of a model of 8 blocks there is one of 9"]
    found, notes = chosen(Sizes(blocks=(8,), end="first"), 10, [1, 2, 4])
    assert ([model.blocks for model in found], notes) == ([9], [notes[0]])
    found, notes = chosen(Sizes(), 10, [4, 5, 6])
    assert found == []
    assert "only come back together" in notes[0]
    found, notes = chosen(Sizes(blocks=(9,)), 10, [1, 5, 6])
    assert [model.blocks for model in found] == [9]
    found, notes = chosen(Sizes(blocks=(9,), end="first"), 10, [1, 5, 6])
    assert (found, notes) == ([], ["There is no model of 9 blocks or more but the original."])


@pytest.mark.parametrize(
    ("changes", "pointer", "part"),
    [
        ({"sizes": {"blocks": [5]}}, "/sizes/blocks/0", "more than 5 and fewer than 8"),
        ({"sizes": {"blocks": [7, 8]}}, "/sizes/blocks/1", "more than 5 and fewer than 8"),
        ({"pruning": {"kind": "depth", "drop": [3, 4]}}, "/sizes", "do not all stand side by side"),
        ({"pruning": {"kind": "depth", "blocks": 2}, "sizes": {"blocks": [6]}}, "/sizes/blocks/0", "more than 6"),
    ],
)
def test_what_cannot_be_is_told_before_the_work(
    changes: dict[str, Any], pointer: str, part: str, tiny_checkpoint: Callable[..., Path]
) -> None:
    job = Job(tiny_checkpoint().parent, CompressionSpec.model_validate({**SPEC, **changes}))
    with pytest.raises(InvalidInput) as caught:
        job.run("check")
    (error,) = caught.value.errors
    assert error.pointer == pointer
    assert part in str(error.expected)


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"recovery": {"kind": "none"}}, "/sizes"),
        ({"pruning": {"kind": "wanda_sp", "ratio": 0.2}, "recovery": {"kind": "lora"}}, "/sizes"),
        ({"sizes": {"blocks": []}}, "/sizes/blocks"),
        ({"sizes": {"blocks": [1]}}, "/sizes/blocks/0"),
        ({"sizes": {"end": "middle"}}, "/sizes/end"),
    ],
)
def test_specs_that_cannot_be_meant(changes: dict[str, Any], pointer: str) -> None:
    with pytest.raises(ValidationError) as caught:
        CompressionSpec.model_validate({**SPEC, **changes})
    assert pointer in [error.pointer for error in field_errors(CompressionSpec, caught.value.errors())]
