"""Options of the measurement of fidelity to the original."""

from __future__ import annotations

from pydantic import Field

from secateur.contract.options.method import Method


class FidelityBenchmark(Method):
    """On the same windows as `perplexity`."""

    title = "Fidelity to the original"
    summary = (
        "KL divergence of the original's next-token distribution from the variant's, and how often both rank the "
        "same token first."
    )
    paper = "Kullback and Leibler 1951"

    enabled: bool = Field(default=True, description="Measure the fidelity to the original.")
