"""An estimate for the OpenAPI document: of the example "quick-look", on an installation that has run one before."""

from __future__ import annotations

from typing import Any


def _stage(key: str, seconds: float, unit: str, memory: int, disk: int) -> dict[str, Any]:
    return {
        "key": key,
        "kind": key,
        "seconds": seconds,
        "seconds_basis": {"stages": 1, "unit": unit},
        "rough_seconds": None,
        "memory_bytes": memory,
        "memory_basis": "past",
        "disk_bytes": disk,
    }


_RESULTS = 1_048_576
ESTIMATE: dict[str, Any] = {
    "model": "SmolLM2-135M-Instruct.Q4_1.gguf",
    "family": "llama",
    "device": {"kind": "cpu", "name": "AMD EPYC 7B13", "detail": "the worker host-1:4711 has it"},
    "dtype": "float32",
    "original": {"blocks": 30, "parameters": 134_515_008, "bytes": 538_060_032, "kv_bytes_per_token": 46_080},
    "pruned": {
        "blocks": 24,
        "parameters": 113_274_432,
        "bytes": 453_097_728,
        "kv_bytes_per_token": 36_864,
        "exact": True,
        "spread": 0,
    },
    "quantised": [],
    "speedup": {
        "value": 1.1875,
        "basis": "bytes",
        "detail": "weights that each generated token reads at batch 1, before and after",
    },
    "stages": [
        _stage("check", 8.1, "stage", 1_581_000_000, _RESULTS),
        _stage("score", 1.9, "byte", 351_000_000, _RESULTS),
        _stage("prune", 2.4, "byte", 351_000_000, 539_210_048),
        _stage("benchmark", 31.0, "token and parameter", 1_320_000_000, _RESULTS),
        _stage("report", 1.2, "stage", 351_000_000, _RESULTS),
    ],
    "seconds": 44.6,
    "rough_seconds": None,
    "memory_bytes": 1_581_000_000,
    "disk_bytes": 543_404_352,
    "worker_disk_bytes": 538_060_032,
    "workers": {"up": 1, "fit": 1},
    "draft": None,
    "notes": [],
}
