"""Which device a setting means: a GPU that cannot be used is told, and is no reason to take the CPU in silence."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from secateur.contract.errors import DeviceFailed, StageFailed
from workers.engine import device
from workers.engine.device import choose_device, is_device_failure, probe

TOO_OLD = (
    "The NVIDIA driver on your system is too old (found version 12080). Please update your GPU driver by downloading "
    "and installing a new version."
)
NO_DRIVER = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver"
POISONED = "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use 'spawn'"

Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Machine]:
    """A machine whose torch is built for CUDA, with these cards, and what `torch.cuda.init` says there."""
    before = dict(os.environ)

    def make(*, says: str | None, cards: int, built: bool = True, visible: str | None = None) -> None:
        def init() -> None:
            if says is not None:
                raise (RuntimeError if built else AssertionError)(says)

        for card in range(cards):
            (tmp_path / f"nvidia{card}").touch()
        (tmp_path / "nvidiactl").touch()
        monkeypatch.setattr(device, "_DEV", tmp_path)
        monkeypatch.setattr(torch.cuda, "init", init)
        monkeypatch.setattr(torch.cuda, "_is_compiled", lambda: built)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    yield make
    os.environ.clear()
    os.environ.update(before)


def test_auto_is_a_gpu_where_there_is_one(machine: Machine) -> None:
    machine(says=None, cards=2)
    assert choose_device("auto") == torch.device("cuda:0")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"


@pytest.mark.parametrize(
    ("says", "cards", "visible"),
    [
        (NO_DRIVER, 0, None),
        ("No CUDA GPUs are available", 0, None),
        ("No CUDA GPUs are available", 2, ""),  # hidden on purpose
        ("No CUDA GPUs are available", 2, "-1"),
    ],
)
def test_auto_is_the_cpu_where_there_is_none(
    machine: Machine, caplog: pytest.LogCaptureFixture, says: str, cards: int, visible: str | None
) -> None:
    machine(says=says, cards=cards, visible=visible)
    assert choose_device("auto") == torch.device("cpu")
    assert caplog.records == []


@pytest.mark.parametrize(
    ("says", "cards"),
    [
        (TOO_OLD, 1),
        (TOO_OLD, 0),  # that there is a driver at all says enough
        (NO_DRIVER, 1),  # the card is there, its driver is not
        ("No CUDA GPUs are available", 1),
        ("Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized", 8),
        (POISONED, 1),
    ],
)
@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_a_gpu_that_torch_cannot_use_is_told_in_torchs_words(
    machine: Machine, name: str, says: str, cards: int
) -> None:
    machine(says=says, cards=cards)
    with pytest.raises(DeviceFailed) as raised:
        choose_device(name)
    assert says.rstrip(".") in raised.value.detail
    assert f'"{name}"' in raised.value.detail
    assert ("SECATEUR_DEVICE=cpu" in raised.value.detail) == (name == "auto")


def test_a_torch_for_cpus_computes_there_and_says_that_it_leaves_a_gpu_alone(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine(says="Torch not compiled with CUDA enabled", cards=1, built=False)
    with caplog.at_level(logging.WARNING):
        assert choose_device("auto") == torch.device("cpu")
    assert "has a GPU, which is not used: Torch not compiled" in caplog.text
    with pytest.raises(DeviceFailed, match="not compiled"):
        choose_device("cuda")


def test_the_cpu_is_asked_for_without_a_look_at_any_gpu(machine: Machine) -> None:
    machine(says=TOO_OLD, cards=1)
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "visible", "expected"),
    [("cuda:1", None, "1"), ("cuda:1", "5,GPU-8a", "GPU-8a"), ("auto", "5,GPU-8a", "5"), ("cuda", None, "0")],
)
def test_one_card_is_made_the_only_one(machine: Machine, name: str, visible: str | None, expected: str) -> None:
    machine(says=None, cards=2, visible=visible)
    choose_device(name)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == expected


def test_a_card_beyond_those_that_are_visible_is_not_another_one(machine: Machine) -> None:
    machine(says=None, cards=8, visible="5,7")
    with pytest.raises(DeviceFailed, match=r'"cuda:2", but CUDA_VISIBLE_DEVICES leaves it 2 \(5,7\)'):
        choose_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:", "cpu:1", "mps", ""])
def test_an_unknown_device_is_refused_by_name(name: str) -> None:
    with pytest.raises(StageFailed, match=f'"{name}"; expected auto, cpu, cuda'):
        choose_device(name)


def test_a_probe_computes() -> None:
    found = probe("cpu")
    assert found.name
    assert found.memory > 10**8
    assert min(found.flops, found.weights_read) > 0
    assert (found.setting, found.kind, found.dtype) == ("cpu", "cpu", "float32")


def test_a_device_that_computes_wrongly_or_not_at_all_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda *size, **more: ones(*size, **more) * 1.5)
    with pytest.raises(DeviceFailed, match="computes wrongly"):
        probe("cpu")

    def fail(*_: object, **__: object) -> None:
        raise torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered")

    monkeypatch.setattr(torch, "ones", fail)
    with pytest.raises(DeviceFailed, match="uncorrectable ECC"):
        probe("cpu")


def test_a_device_whose_memory_others_fill_works(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")

    monkeypatch.setattr(torch, "ones", fail)
    found = probe("cpu")
    assert (found.setting, found.flops, found.weights_read) == ("cpu", 0, 0)  # how fast it is is not known


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"), True),
        (RuntimeError("CUDA driver initialization failed, you might not have a CUDA gpu."), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("CUDA error"), False),
    ],
    ids=str,
)
def test_failures_of_the_device_are_told_from_others(error: BaseException, expected: bool) -> None:
    assert is_device_failure(error) is expected
