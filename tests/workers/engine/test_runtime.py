"""The set-up of a stage's process."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from secateur.about import VERSION
from secateur.contract.errors import DeviceFailed
from workers.engine.runtime import environment, prepare, visible_gpus


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    threads, visible = torch.get_num_threads(), os.environ.get("CUDA_VISIBLE_DEVICES")
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    if visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible


def test_a_cpu_computes_in_float32_unless_told_otherwise() -> None:
    assert prepare(device="cpu").dtype is torch.float32
    assert prepare(device="cpu", dtype="bfloat16").dtype is torch.bfloat16


def test_threads_and_determinism_are_set() -> None:
    machine = prepare(device="cpu", threads=1)
    assert machine.threads == torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()


def test_the_same_seed_gives_the_same_draws() -> None:
    def draws() -> tuple[float, float, float]:
        prepare(device="cpu", seed=7)
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # the global generator is what is tested

    assert draws() == draws()


def test_a_missing_gpu_is_told() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceFailed, match='SECATEUR_DEVICE is "cuda:3"'):
        prepare(device="cuda:3")
    assert prepare(device="auto").device.type == "cpu"


def test_the_environment_names_device_dtype_and_versions() -> None:
    found = environment(prepare(device="cpu", threads=1))
    assert (found.device, found.dtype, found.threads) == ("cpu", "float32", 1)
    assert found.device_name
    assert found.versions["torch"] == torch.__version__
    assert found.versions["secateur"] == VERSION  # by its own word: no distribution has that name
    assert "transformers" in found.versions


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("auto", None, ["0", "1", "2"]),
        ("cuda", "5,GPU-8a,7", ["5", "GPU-8a", "7"]),
        ("cuda:1", "5,GPU-8a,7", ["GPU-8a", "7"]),
        ("cuda:1", None, ["1", "2"]),
        ("cuda:4", None, []),
        ("cpu", None, []),
    ],
)
def test_gpus_are_named_as_cuda_names_them_and_counted_elsewhere(
    monkeypatch: pytest.MonkeyPatch, device: str, visible: str | None, expected: list[str]
) -> None:
    here = os.getpid()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3 if os.getpid() != here else pytest.fail("not here"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_gpus(device) == expected
