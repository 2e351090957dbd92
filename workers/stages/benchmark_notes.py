"""What a reader must mind in the benchmark's figures, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from secateur.contract.named_texts import NAMED_TEXTS, split_of
from secateur.contract.options.benchmark import PerplexityBenchmark
from secateur.contract.options.recovery import NoRecovery
from secateur.contract.options.texts import AnswersText, BlendText, HubText, LocalText, NamedText, UploadText
from secateur.contract.results import QuantisedVariant, TextInfo
from secateur.contract.spec import CompressionSpec


def notes_on_texts(spec: CompressionSpec, trained: TextInfo | None) -> list[str]:
    """Where the recovered model has seen what it is measured on."""
    if trained is None or (spec.benchmark.perplexity is None and not spec.benchmark.fidelity.enabled):
        return []
    options = spec.benchmark.perplexity or PerplexityBenchmark()
    training = None if isinstance(spec.recovery, NoRecovery) else spec.recovery.text
    return [
        f"Training and measuring text overlap in {_name(trained)}: the recovered model has seen what it is measured "
        "on. Choose disjoint slices or splits."
        for text in options.texts
        if overlap(training, text)
    ]


def notes_on_files(files: Mapping[str, bool]) -> list[str]:
    """How variants that are GGUF files were measured: by their values, which transformers computes with.

    Args:
        files: each with whether llama.cpp was timed with it.
    """
    if not files:
        return []
    unmeasured = "Memory under llama.cpp was" if all(files.values()) else "Speed and memory under llama.cpp were"
    return [
        f"Of {', '.join(files)} the values in the file were measured, unpacked and run by transformers. {unmeasured} "
        "not measured."
    ]


def notes_on_quantised(quantised: Sequence[QuantisedVariant], *, timed: bool) -> list[str]:
    """How quantised checkpoints ran: by transformers, which computes with unpacked weights."""
    packed = [variant.name for variant in quantised if variant.kind != "gguf"]
    if not (packed and timed):
        return []
    return [
        f"transformers unpacks {', '.join(packed)} when it loads them, so speed and memory here are those of "
        "unpacked weights. What is saved is disk and download; an engine with kernels for packed weights, such as "
        "vLLM, saves memory and time as well."
    ]


def overlap(training: object, measuring: object) -> bool:
    """Whether two texts of the spec can have tokens in common."""
    if isinstance(training, BlendText):
        return any(overlap(part.text, measuring) for part in training.parts)
    if isinstance(measuring, BlendText):
        return any(overlap(training, part.text) for part in measuring.parts)
    if isinstance(training, AnswersText) and isinstance(measuring, AnswersText):
        return overlap(training.prompts, measuring.prompts)  # of the built-in ones some are kept for measuring
    if isinstance(training, LocalText) and isinstance(measuring, LocalText):
        return training.path == measuring.path and max(training.start, measuring.start) < min(
            training.stop, measuring.stop
        )
    if isinstance(training, NamedText):
        training = _on_hub(training, measuring=False)
    if isinstance(measuring, NamedText):
        measuring = _on_hub(measuring, measuring=True)
    if isinstance(training, UploadText) and isinstance(measuring, UploadText):
        return training.id == measuring.id and max(training.start, measuring.start) < min(training.stop, measuring.stop)
    if isinstance(training, HubText) and isinstance(measuring, HubText):
        return (training.id, training.config, training.split) == (measuring.id, measuring.config, measuring.split)
    return False


def _on_hub(text: NamedText, *, measuring: bool) -> HubText:
    """The same text by its place on the hub."""
    named, split = NAMED_TEXTS[text.name], split_of(text.name, text.split, measuring=measuring)
    return HubText(source="hub", id=named.id, config=named.files[split].split("/")[0], split=split)


def _name(text: TextInfo) -> str:
    """What people know the text's place by; an upload is one by its name, and not by its checksum."""
    return text.description if text.source == "upload" else text.identity
