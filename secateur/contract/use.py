"""What a stage uses of its machine: memory, processor, and the GPU where it has one."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from secateur.contract.numbers import percent, significant, size


class StageUse(BaseModel):
    """As it was last measured; of all processes of the stage together."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    memory_bytes: int = Field(description="In use, mapped files apart.")
    peak_memory_bytes: int = Field(description="The most so far.")
    cores: float | None = Field(
        default=None, description="Processor cores that it kept busy since the measurement before; null at first."
    )
    device_memory_bytes: int | None = Field(
        default=None, description="Of its GPUs, that torch holds for it; null where it computes on none."
    )
    peak_device_memory_bytes: int | None = Field(default=None, description="The most of that so far.")
    device_busy: float | None = Field(
        default=None,
        description="Share of the time that its GPU was busy, whoever used it, 0 to 1; null where the driver does not "
        "say (the worker needs `nvidia-ml-py` to ask it).",
    )


def now_in_words(use: StageUse) -> str:
    """Of a stage that runs.

    >>> now_in_words(StageUse(memory_bytes=1_200_000_000, peak_memory_bytes=1_400_000_000, cores=1.94))
    '1.2 GB of memory (at most 1.4 GB), 1.9 cores'
    """
    parts = [_amount(use.memory_bytes, use.peak_memory_bytes, "of memory")]
    if use.cores is not None:
        parts.append(f"{significant(use.cores, 2) if use.cores >= 0.05 else '0'} cores")
    if use.device_memory_bytes is not None:
        parts.append(_amount(use.device_memory_bytes, use.peak_device_memory_bytes, "of the GPU"))
    if use.device_busy is not None:
        parts.append(f"GPU {percent(use.device_busy, 2)} busy")
    return ", ".join(parts)


def most_in_words(memory_bytes: int | None, use: StageUse | None) -> str:
    """Of a stage that is over; `memory_bytes` is the peak that was seen at its end. Empty where nothing is known."""
    memory = memory_bytes or (use.peak_memory_bytes if use is not None else None)
    if memory is None:
        return ""
    device = use.peak_device_memory_bytes if use is not None else None
    return f"at most {size(memory, 2)} of memory" + (f", {size(device, 2)} of the GPU" if device else "")


def _amount(now: int, most: int | None, of: str) -> str:
    peak = f" (at most {size(most, 2)})" if most and size(most, 2) != size(now, 2) else ""
    return f"{size(now, 2)} {of}{peak}"
