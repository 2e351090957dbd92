"""What a reader must mind in the benchmark's figures, in words."""

from __future__ import annotations

from collections.abc import Sequence

from app.domain.options import HubText, LocalText, PerplexityBenchmark
from app.domain.results import LatencyCell, TextInfo
from app.domain.spec import CompressionSpec

NOISY = 0.05  # the original against itself: more than this is worth a sentence


def notes_on_texts(spec: CompressionSpec, trained: TextInfo | None, measured: Sequence[TextInfo]) -> list[str]:
    """Where training and measuring text come from one place, what perplexity then means."""
    if trained is None:
        return []
    notes = []
    training = getattr(spec.recovery, "text", None)
    options = spec.benchmark.perplexity or PerplexityBenchmark()
    for text, info in zip(options.texts, measured, strict=False):
        if info.identity != trained.identity:
            continue
        place = "text that the model generated itself" if info.source == "self" else info.identity
        notes.append(
            f"The recovered model was trained on {place} and its perplexity measured on other parts of the same: a "
            "perplexity below the original's, or near it, is adaptation to the text and not recovery. Go by the KL "
            "divergence and the agreement, and measure on text of another kind."
        )
        if overlap(training, text):
            notes.append(
                f"Training and measuring text overlap in {info.identity}: the recovered model has seen what it is "
                "measured on. Choose disjoint slices or splits."
            )
    return notes


def overlap(training: object, measuring: object) -> bool:
    """Whether two texts of the spec can have tokens in common."""
    if isinstance(training, LocalText) and isinstance(measuring, LocalText):
        return training.path == measuring.path and max(training.start, measuring.start) < min(
            training.stop, measuring.stop
        )
    if isinstance(training, HubText) and isinstance(measuring, HubText):
        return (training.id, training.config, training.split) == (measuring.id, measuring.config, measuring.split)
    return False


def notes_on_noise(latency: Sequence[LatencyCell]) -> list[str]:
    """Where the original, timed against itself, shows that the machine was busy."""
    worst = max((cell.noise or 0.0 for cell in latency), default=0.0)
    if worst <= NOISY:
        return []
    return [
        f"The machine was noisy: the original timed against itself differed by up to {worst:.0%}. Speedups within "
        "that of 1 say nothing."
    ]
