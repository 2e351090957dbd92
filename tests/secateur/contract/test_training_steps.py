"""Steps of a training, and the warm-up that fits into them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from secateur.contract.errors import InvalidInput
from secateur.contract.options.recovery import ContinuedRecovery, DistillRecovery, LoraRecovery
from secateur.contract.spec import CompressionSpec
from secateur.contract.training_steps import held_out, most_steps, total_steps, warmup_of
from secateur.contract.validation_errors import field_errors

JOB: dict[str, Any] = {"model": {"source": "hub", "id": "some/model"}, "pruning": {"kind": "depth", "blocks": 2}}


def lengths(**given: Any) -> Any:
    return SimpleNamespace(**{"epochs": 2, "batch_size": 4, "max_steps": None, "max_tokens": None, **given})


def test_steps_are_those_of_the_epochs_or_of_a_bound() -> None:
    assert total_steps(22, 12, lengths()) == 12  # six batches an epoch, the last one of two samples
    assert total_steps(22, 12, lengths(max_steps=5)) == 5
    assert total_steps(22, 12, lengths(max_tokens=4 * 12 * 3 + 1)) == 3
    assert total_steps(22, 12, lengths(max_tokens=1)) == 1
    assert total_steps(3, 12, lengths(epochs=0.1)) == 1


def test_what_the_options_tell_of_the_steps_before_the_text_is_seen() -> None:
    def most(given: Any, **more: Any) -> int | None:
        return most_steps(given, **{"samples": None, "tokens": 10, "validation": 0.0, "generated": False, **more})

    assert most(lengths()) is None
    assert most(lengths(max_steps=7)) == 7
    assert most(lengths(max_steps=7, max_tokens=200)) == 5
    assert most(lengths(), samples=20) == 10
    assert most(lengths(), samples=20, validation=0.5) == 6
    assert most(lengths(), generated=True) == 256
    assert most(lengths(max_steps=300), generated=True) == 256


def test_held_out_samples_leave_one_to_train_on() -> None:
    assert [held_out(10, fraction) for fraction in (0.0, 0.01, 0.25, 0.5)] == [0, 1, 2, 5]
    assert held_out(2, 0.9) == 1


@pytest.mark.parametrize(
    ("given", "steps", "usual", "expected"),
    [
        (None, 16, 100, 1),
        (None, 9, 100, 0),
        (None, 128, 10, 10),
        (None, 1560, 100, 100),
        (0, 1, 10, 0),
        (15, 16, 10, 15),
    ],
)
def test_a_warm_up_that_is_not_given_is_at_most_a_tenth_of_the_steps(
    given: int | None, steps: int, usual: int, expected: int
) -> None:
    assert warmup_of(given, steps, usual=usual) == expected


def test_one_that_is_given_and_does_not_end_is_refused() -> None:
    with pytest.raises(InvalidInput) as refused:
        warmup_of(16, 16, usual=10)
    (error,) = refused.value.errors
    assert (error.pointer, error.value) == ("/recovery/warmup_steps", 16)
    assert error.expected is not None
    assert error.expected.startswith("at most 15")


@pytest.mark.parametrize(
    ("recovery", "most"),
    [
        ({"kind": "lora", "warmup_steps": 20, "max_steps": 20}, 16),  # of the 512 samples that the model writes
        ({"kind": "lora", "warmup_steps": 100}, 16),
        ({"warmup_steps": 128}, 128),
        ({"kind": "continued", "warmup_steps": 5, "max_steps": 5, "text": {"source": "local", "path": "a.txt"}}, 5),
        ({"warmup_steps": 2, "max_tokens": 8 * 256 * 2, "text": {"source": "hub", "id": "a/b"}}, 2),
        ({"warmup_steps": 4, "samples": 16, "text": {"source": "local", "path": "a.txt"}}, 4),
    ],
)
def test_a_job_whose_warm_up_cannot_end_is_refused_when_it_is_submitted(recovery: dict[str, Any], most: int) -> None:
    with pytest.raises(ValidationError) as refused:
        CompressionSpec.model_validate({**JOB, "recovery": recovery})
    (error,) = field_errors(CompressionSpec, refused.value.errors())
    assert (error.pointer, error.value) == ("/recovery/warmup_steps", recovery["warmup_steps"])
    assert error.detail == f"a warm-up of {recovery['warmup_steps']} steps does not end in a training of {most}"
    assert error.expected is not None
    assert error.expected.startswith(f"at most {most - 1}")
    CompressionSpec.model_validate({**JOB, "recovery": {**recovery, "warmup_steps": most - 1}})


@pytest.mark.parametrize("options", [LoraRecovery(), ContinuedRecovery(kind="continued"), DistillRecovery()])
@pytest.mark.parametrize("samples", [1, 20, 512, 20_000])
def test_no_default_wastes_its_training(options: Any, samples: int) -> None:
    steps = total_steps(samples, options.tokens, options)
    assert warmup_of(options.warmup_steps, steps, usual=options.usual_warmup) <= steps / 10
