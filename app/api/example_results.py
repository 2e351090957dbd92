"""The examples of a job's results in the OpenAPI document: of a made-up model of four blocks.

They show what stands where, and not what to expect.
"""

from __future__ import annotations

from typing import Any

from app.api.example_specs import JOB_ID, OTHER_JOB_ID, QUICK_LOOK_FILLED
from secateur.about import VERSION
from secateur.contract.comparison import compare_reports
from secateur.contract.report import Report

_MODEL = {
    "id": "SmolLM2-135M-Instruct.Q4_1.gguf",
    "revision": None,
    "fingerprint": "b1e7e4f0a7d14d5c3f0d7fd0a5d3f2f2cf40a0f8f8c1f7ad6d3a8cf1a2a3e9b4",
    "family": "llama",
    "blocks": 4,
    "parameters": 3154432,
    "bytes_on_disk": 12634112,
    "licence": {"name": "apache-2.0", "title": None, "link": None},
}
_ENVIRONMENT = {
    "device": "cpu",
    "device_name": "AMD EPYC",
    "dtype": "float32",
    "threads": 2,
    "platform": "Linux x86_64",
    "python": "3.11.7",
    "versions": {"secateur": VERSION, "torch": "2.13.0"},
}

CHECKED: dict[str, Any] = {
    "checks": [
        {"name": "model", "seen": "llama, 4 blocks, 3,154,432 parameters", "seconds": 0.2},
        {"name": "pruning", "seen": "1 of 4 blocks go, 0 are protected", "seconds": 0.1},
    ],
    "model": _MODEL,
    "seconds": 0.6,
    "environment": _ENVIRONMENT,
}

SCORED: dict[str, Any] = {
    "criterion": "magnitude",
    "options": {"criterion": "magnitude"},
    "blocks": [
        {"block": 0, "value": 41250.5, "standard_error": None},
        {"block": 1, "value": 38120.25, "standard_error": None},
        {"block": 2, "value": 37990.0, "standard_error": None},
        {"block": 3, "value": 40011.75, "standard_error": None},
    ],
    "order": [2, 1, 3, 0],
    "calibration": None,
    "model": _MODEL,
    "seed": 0,
    "seconds": 0.4,
    "environment": _ENVIRONMENT,
    "details": {},
}

SCORES: dict[str, Any] = {
    **SCORED,
    "options": {"criterion": "magnitude", "plus": False},
    "protected": [],
    "drop": [2],
}


def _measured(variant: str, parameters: int, blocks: int, seconds: float, speedup: Any) -> dict[str, Any]:
    def interval(median: float) -> dict[str, float]:
        return {"median": median, "low": round(0.98 * median, 4), "high": round(1.02 * median, 4)}

    return {
        "variant": variant,
        "parameters": parameters,
        "blocks": blocks,
        "bytes_on_disk": 4 * parameters,
        "latency": [
            {
                "batch_size": 1,
                "input_tokens": 12,
                "output_tokens": 16,
                "runs": 3,
                "seconds": interval(seconds),
                "tokens_per_second": interval(16 / seconds),
                "time_to_first_token": interval(seconds / 10),
                "time_per_output_token": interval(seconds / 17),
                "speedup": speedup,
                "noise": 0.02,
            }
        ],
        "llama_cpp": [
            {
                "build": "llama-bench, build 5163 (8cf427ff)",
                "against": "the Q4_1 file that came in",
                "batch_size": 1,
                "input_tokens": 12,
                "output_tokens": 16,
                "runs": 3,
                "prompt_tokens_per_second": interval(400 / seconds),
                "tokens_per_second": interval(80 / seconds),
                "speedup": speedup,
                "noise": 0.01,
            }
        ],
        "memory": None,
        "perplexity": [],
        "fidelity": [],
        "samples": [],
        "generation": [
            {
                "check": "all",
                "headline": True,
                "prompts": 48,
                "chat": True,
                "exact": 0.5 if speedup is None else 0.0625,
                "standard_error": 0.0729 if speedup is None else 0.0353,
                **(
                    {}
                    if speedup is None
                    else {
                        "drop": 0.4375,
                        "drop_low": 0.2917,
                        "drop_high": 0.5833,
                        "p_value": 9.5e-07,
                        "agreement": 0.0417,
                        "agreement_low": 0.0051,
                        "agreement_high": 0.1425,
                    }
                ),
            }
        ],
    }


REPORT: dict[str, Any] = {
    "schema_version": "1.0",
    "job_id": JOB_ID,
    "created_at": "2026-11-24T18:30:00.104000Z",
    "spec": QUICK_LOOK_FILLED,
    "model": _MODEL,
    "scores": SCORES,
    "pruned": {
        "kind": "depth",
        "dropped": [2],
        "kept": [0, 1, 3],
        "parameters_before": 3154432,
        "parameters_after": 2890240,
        "bytes_before": 12634112,
        "bytes_after": 11577344,
        "seconds": 0.1,
        "needs_loader": False,
        "notes": [],
        "model": _MODEL,
    },
    "recovered": None,
    "quantised": None,
    "benchmarks": {
        "variants": [
            _measured("original", 3154432, 4, 0.2, None),
            _measured("pruned", 2890240, 3, 0.16, {"median": 1.25, "low": 1.22, "high": 1.28}),
        ],
        "environment": _ENVIRONMENT,
        "seconds": 4.1,
        "notes": [],
    },
    "final_variant": "pruned",
    "verdict": "passed",
    "gates": [
        {
            "gate": "min_speedup",
            "metric": "speedup (batch 1, 12 + 16 tokens)",
            "threshold": 1.2,
            "value": 1.25,
            "low": 1.22,
            "high": 1.28,
            "judged": 1.22,
            "passed": True,
            "message": "speedup (batch 1, 12 + 16 tokens) is 1.25× (1.22 to 1.28): "
            "its low end, 1.22×, is at least 1.2×",
        }
    ],
    "notes": [
        "Quality was not judged: the gates that passed (`min_speedup`) are on speed and size, and a model that is good "
        "for nothing may pass them. Gates on quality are `max_perplexity_ratio`, `max_kl`, `min_top1_agreement`, "
        "`max_accuracy_drop`, `max_exact_match_drop`, `min_same_text`, `max_repetition` and `min_sample_length`."
    ],
}

_OTHER_REPORT = {
    **REPORT,
    "job_id": OTHER_JOB_ID,
    "created_at": "2026-11-25T09:12:00.310000Z",
    "spec": {**QUICK_LOOK_FILLED, "pruning": {**QUICK_LOOK_FILLED["pruning"], "blocks": 2}},
    "pruned": {**REPORT["pruned"], "dropped": [1, 2], "kept": [0, 3], "parameters_after": 2626048},
    "benchmarks": {
        **REPORT["benchmarks"],
        "variants": [
            REPORT["benchmarks"]["variants"][0],
            _measured("pruned", 2626048, 2, 0.12, {"median": 1.67, "low": 1.62, "high": 1.71}),
        ],
    },
}

COMPARISON: dict[str, Any] = compare_reports(
    Report.model_validate(REPORT), Report.model_validate(_OTHER_REPORT)
).model_dump(mode="json")
