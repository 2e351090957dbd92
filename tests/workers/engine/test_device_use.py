"""What a stage's process says of its GPUs."""

from __future__ import annotations

import pytest
import torch

from secateur.contract.protocol import DeviceUse
from workers.engine import device_use as module
from workers.engine.device_use import device_use


def test_a_process_that_computes_on_the_processor_says_nothing() -> None:
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # no annotations upstream
        pytest.skip("another test of this process has begun to compute on a GPU")
    assert device_use() is None


def test_what_torch_holds_of_every_card_is_summed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """By stand-ins for what torch tells, since most machines that run the tests have no GPU."""
    held = {"memory_reserved": [300, 40], "max_memory_reserved": [500, 60]}
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, amounts in held.items():
        monkeypatch.setattr(torch.cuda, name, amounts.__getitem__)
    monkeypatch.setattr(torch.cuda, "utilization", lambda: 87)
    monkeypatch.setattr(module, "_ASKS_THE_DRIVER", False)
    assert device_use() == DeviceUse(memory=340, peak=560, busy=None)
    monkeypatch.setattr(module, "_ASKS_THE_DRIVER", True)
    assert device_use() == DeviceUse(memory=340, peak=560, busy=0.87)


class NVMLError(Exception):
    """As in `nvidia-ml-py`, which derives it from nothing else and which torch lets through."""


@pytest.mark.parametrize(
    "error", [NVMLError("Not Supported"), RuntimeError("no driver"), IndexError("no visible card")]
)
def test_a_driver_that_does_not_tell_does_no_harm(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Not Supported` is what it says of a part of a GPU (MIG)."""

    def refuse() -> int:
        raise error

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "utilization", refuse)
    monkeypatch.setattr(module, "_ASKS_THE_DRIVER", True)
    assert device_use() == DeviceUse(memory=0, peak=0, busy=None)
