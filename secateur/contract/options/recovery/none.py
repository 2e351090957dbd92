"""No recovery."""

from __future__ import annotations

from typing import Literal

from secateur.contract.options.method import Method
from secateur.contract.options.papers import SHORTENED_LLAMA


class NoRecovery(Method):
    title = "No recovery"
    summary = "The pruned model as it is."
    paper = SHORTENED_LLAMA

    kind: Literal["none"]
