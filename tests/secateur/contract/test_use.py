"""What a stage uses, in words."""

from __future__ import annotations

import pytest

from secateur.contract.use import StageUse, most_in_words, now_in_words

GB = 10**9


@pytest.mark.parametrize(
    ("use", "words"),
    [
        ({}, "1.2 GB of memory (at most 1.4 GB)"),
        ({"peak_memory_bytes": 1.2 * GB}, "1.2 GB of memory"),
        ({"cores": 0.004}, "1.2 GB of memory (at most 1.4 GB), 0 cores"),
        ({"cores": 1.0}, "1.2 GB of memory (at most 1.4 GB), 1.0 cores"),
        (
            {"cores": 11.6, "device_memory_bytes": 12 * GB, "peak_device_memory_bytes": 14 * GB, "device_busy": 0.87},
            "1.2 GB of memory (at most 1.4 GB), 12 cores, 12 GB of the GPU (at most 14 GB), GPU 87 % busy",
        ),
        ({"device_memory_bytes": 0}, "1.2 GB of memory (at most 1.4 GB), 0 B of the GPU"),
    ],
)
def test_what_it_uses_now(use: dict[str, float], words: str) -> None:
    known = {"memory_bytes": 1.2 * GB, "peak_memory_bytes": 1.4 * GB, **use}
    assert now_in_words(StageUse.model_validate(known)) == words


def test_what_it_used_at_most() -> None:
    use = StageUse(memory_bytes=1, peak_memory_bytes=2 * GB, device_memory_bytes=0, peak_device_memory_bytes=3 * GB)
    assert most_in_words(None, None) == ""
    assert most_in_words(GB, None) == "at most 1.0 GB of memory"
    assert most_in_words(None, use) == "at most 2.0 GB of memory, 3.0 GB of the GPU"  # of one that failed
    assert most_in_words(GB, use).startswith("at most 1.0 GB")  # what was seen at its end goes before
