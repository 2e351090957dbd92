"""The model in memory as the harness takes it: with our progress, and a count of what it cuts off.

The harness cuts a prompt that is longer than the model's positions from its left, as its own command does, and says so
in a log that nobody reads. The figure is of what was left, so a report says it too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workers.engine.progress import Progress


def harness_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, batch_size: int, progress: Progress
) -> Any:
    """An `HFLM` of the harness, with a method `notes`."""
    from lm_eval.models.huggingface import HFLM  # type: ignore[import-untyped]  # takes seconds; ships no annotations

    class _Model(HFLM):  # type: ignore[misc]  # untyped upstream
        asked = cut = 0

        def _loglikelihood_tokens(self, requests: list[Any], *args: Any, **kwargs: Any) -> Any:
            self.asked += len(requests)
            self.cut += sum(len(context) + len(answer) > self.max_length + 1 for _, context, answer in requests)
            with _bars(progress):
                return super()._loglikelihood_tokens(requests, *args, **kwargs)

        def generate_until(self, requests: list[Any], *args: Any, **kwargs: Any) -> Any:
            self.asked += len(requests)
            for request in requests:
                prompt, options = request.args
                room = self.max_length - int(options.get("max_gen_toks", self.max_gen_toks))
                self.cut += len(self.tok_encode(prompt)) > room
            with _bars(progress):
                return super().generate_until(requests, *args, **kwargs)

        def notes(self) -> list[str]:
            if not self.cut:
                return []
            return [
                f"{self.cut:,} of {self.asked:,} prompts of the tasks are longer than the model's {self.max_length:,} "
                "positions and were cut from their left, as lm-evaluation-harness does it: the figures are of what was "
                "left of them."
            ]

    return _Model(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)


@contextmanager
def _bars(progress: Progress) -> Iterator[None]:
    """The harness's progress bars as our progress, of requests."""
    from lm_eval.models import huggingface  # type: ignore[import-untyped]  # ships no annotations

    class _Bar:
        def __init__(self, *_: Any, total: int = 0, **__: Any) -> None:
            self.done, self.total = 0, total

        def update(self, count: int = 1) -> None:
            self.done += count
            progress(self.done, self.total, "requests")

        def close(self) -> None:
            pass

    before = huggingface.tqdm
    huggingface.tqdm = _Bar
    try:
        yield
    finally:
        huggingface.tqdm = before
