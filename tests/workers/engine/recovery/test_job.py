"""How much text a training asks for: what its bounds let it use, and no more."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from secateur.contract.options.recovery.distill import DistillRecovery
from secateur.contract.options.recovery.steps import GENERATED_SAMPLES, held_out, total_steps
from secateur.contract.options.texts import LocalText
from workers.engine.recovery.job import most_samples, samples_asked, settings_of

FILE = LocalText(source="local", path="news.txt")


@pytest.mark.parametrize(
    ("given", "own", "read"),
    [
        ({"max_steps": 20}, 80, 160),  # batches of 8; two passes over what the model writes
        ({"max_steps": 20, "batch_size": 4}, 40, 80),
        ({"max_steps": 20, "epochs": 1}, 160, 160),
        ({"max_steps": 20, "epochs": 0.5}, 320, 320),  # half of the text is trained on
        ({"max_tokens": 20 * 8 * 256 + 5}, 80, 160),
        ({"max_steps": 20, "max_tokens": 10 * 8 * 256}, 40, 80),
        ({"max_steps": 1000}, GENERATED_SAMPLES, 8000),
        ({}, GENERATED_SAMPLES, None),
        ({"max_steps": 20, "samples": 100}, 100, 100),
        ({"samples": 100_000, "max_steps": 20}, 160, 160),
    ],
)
def test_text_that_the_model_writes_is_used_in_every_pass_and_text_that_is_read_once(
    given: dict[str, Any], own: int, read: int | None
) -> None:
    assert samples_asked(DistillRecovery(**given)) == own
    assert samples_asked(DistillRecovery(**given, text=FILE)) == read


def test_so_much_is_enough_for_every_step_that_is_asked_for() -> None:
    lengths = product([1, 2, 7, 20, 33], [1, 3, 8], [0.1, 0.5, 1, 2, 2.5, 7], [0, 0.01, 0.05, 0.25, 0.5])
    for steps, batch, epochs, validation in lengths:
        options = DistillRecovery(
            max_steps=steps, batch_size=batch, micro_batch_size=1, epochs=epochs, validation=validation, text=FILE
        )
        for samples in (most_samples(options), most_samples(options, passes=epochs)):
            assert samples is not None
            settings = settings_of(options, samples=samples)
            trained = samples - held_out(samples, validation)
            assert total_steps(trained, options.tokens, options) == steps, options
            assert settings.warmup_steps <= steps / 10
