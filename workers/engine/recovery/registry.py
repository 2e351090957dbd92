"""The one table of recoveries: from the options that a job gives to the function that recovers a model by them.

What each is called, its options and its paper stand in `secateur/contract/options/recovery/`, how it works in the file
of the same name here. A job without a recovery has no stage that would ask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from secateur.contract.options.method import Method
from secateur.contract.options.recovery.continued import ContinuedRecovery
from secateur.contract.options.recovery.distill import DistillRecovery
from secateur.contract.options.recovery.healing import HealingRecovery
from secateur.contract.options.recovery.lora import LoraRecovery
from workers.engine.recovery import continued, distill, healing, lora
from workers.engine.recovery.job import RecoveryJob, RecoveryOutcome

Options = TypeVar("Options", bound=Method)
Recover = Callable[[RecoveryJob, Options], RecoveryOutcome]


def _row(options: type[Options], recover: Recover[Options]) -> tuple[type[Method], Recover[Any]]:
    """A row of the table; a type checker sees that the function takes these options."""
    return options, recover


RECOVERIES: Mapping[type[Method], Recover[Any]] = dict(
    (
        _row(LoraRecovery, lora.recover),
        _row(DistillRecovery, distill.recover),
        _row(ContinuedRecovery, continued.recover),
        _row(HealingRecovery, healing.recover),
    )
)
