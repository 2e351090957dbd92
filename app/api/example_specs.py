"""Bodies that can be sent to POST /jobs as they stand, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from secateur.contract.spec import CompressionSpec

JOB_ID = "019ab8e0-6a1c-7c5e-9d3f-2b6f0c9d4e11"
JOB_PATH = f"/jobs/{JOB_ID}"
OTHER_JOB_ID = "019ab8f2-91b0-7d3a-8a44-5e1c7d20b6f3"

LOCAL_GGUF: dict[str, Any] = {
    "model": {"source": "local", "path": "SmolLM2-135M-Instruct.Q4_1.gguf"},
    "pruning": {"kind": "depth", "blocks": 6},
}

HUB_WITH_GATES: dict[str, Any] = {
    "model": {"source": "hub", "id": "HuggingFaceTB/SmolLM2-135M-Instruct"},
    "scoring": {
        "criterion": "perplexity",
        "calibration": {
            "text": {"source": "hub", "id": "Salesforce/wikitext", "config": "wikitext-2-raw-v1"},
            "samples": 10,
            "tokens": 128,
        },
    },
    "pruning": {"kind": "depth", "ratio": 0.2},
    "recovery": {
        "kind": "lora",
        "rank": 8,
        "text": {"source": "hub", "id": "Salesforce/wikitext", "config": "wikitext-2-raw-v1"},
    },
    "gates": {"min_speedup": 1.25, "max_perplexity_ratio": 1.5},
    "labels": {"commit": "abc123"},
}

TARGET: dict[str, Any] = {
    "model": {"source": "hub", "id": "HuggingFaceTB/SmolLM2-135M-Instruct"},
    "pruning": {"kind": "depth", "target": {"parameters": 0.8}},
}

FASTER: dict[str, Any] = {
    "model": {"source": "local", "path": "SmolLM2-135M-Instruct.Q4_1.gguf"},
    "pruning": {"kind": "depth", "target": {"speedup": 1.3}},
}

WITHIN: dict[str, Any] = {
    "model": {"source": "local", "path": "SmolLM2-135M-Instruct.Q4_1.gguf"},
    "pruning": {
        "kind": "depth",
        "constraints": {"max_kl": 0.3, "min_top1_agreement": 0.7},
        "maximise": "speedup",
    },
}

AFTER_HEALING: dict[str, Any] = {
    "model": {"source": "local", "path": "SmolLM2-135M-Instruct.Q4_1.gguf"},
    "scoring": {"criterion": "perplexity", "after_healing": True, "finalists": 3, "finalist_steps": 40},
    "pruning": {"kind": "depth", "blocks": 6},
}

EXPLICIT_DROP: dict[str, Any] = {
    "model": {"source": "local", "path": "SmolLM2-135M-Instruct.Q4_1.gguf"},
    "pruning": {"kind": "depth", "drop": [21, 22, 23, 24, 25, 26]},
    "recovery": {"kind": "none"},
    "benchmark": {"latency": {"warmup": 2, "runs": 5}},
}

AGAINST_MAIN: dict[str, Any] = {
    "model": {"source": "hub", "id": "HuggingFaceTB/SmolLM2-135M-Instruct"},
    "pruning": {"kind": "depth", "blocks": 6},
    "baseline": {
        "label": {"branch": "main"},
        "required": False,
        "max_regression": {"speedup": 0.05, "kl": 0.1},
    },
    "labels": {"branch": "main"},
}

HALVES: dict[str, Any] = {
    "model": {"source": "hub", "id": "HuggingFaceTB/SmolLM2-135M-Instruct"},
    "pruning": {"kind": "sub_block", "units": 12, "protected": ["0.attention", "0.mlp"]},
}

JOINT: dict[str, Any] = {
    "model": {"source": "local", "path": "SmolLM2-135M-Instruct.Q4_1.gguf"},
    "pruning": {"kind": "joint", "target": {"speedup": 1.3}, "protected": ["0.attention"]},
}

EXPERTS: dict[str, Any] = {
    "model": {"source": "hub", "id": "Qwen/Qwen3-30B-A3B"},
    "pruning": {"kind": "experts", "ratio": 0.25, "criterion": "reap"},
    "recovery": {"kind": "none"},
}

VOCABULARY: dict[str, Any] = {
    "model": {"source": "hub", "id": "HuggingFaceTB/SmolLM2-135M-Instruct"},
    "pruning": {"kind": "vocabulary", "tokens": 24_000, "text": {"source": "named", "name": "wikitext2"}},
    "gates": {"max_bits_per_byte_rise": 0.05},
}

QUICK_LOOK: dict[str, Any] = {
    "model": {"source": "local", "path": "SmolLM2-135M-Instruct.Q4_1.gguf"},
    "scoring": {"criterion": "magnitude"},
    "pruning": {"kind": "depth", "blocks": 6},
    "recovery": {"kind": "none"},
    "benchmark": {"latency": {"output_tokens": [16], "warmup": 1, "runs": 3}, "samples": None},
}

QUANTISED: dict[str, Any] = {
    "model": {"source": "local", "path": "SmolLM2-135M-Instruct.Q4_1.gguf"},
    "pruning": {"kind": "depth", "blocks": 6},
    "quantise": [{"kind": "int8"}, {"kind": "int4", "group_size": 32}, {"kind": "gguf", "type": "Q8_0"}],
}

DRAFT: dict[str, Any] = {
    "model": {"source": "hub", "id": "Qwen/Qwen3-0.6B"},
    "use": "draft",
    "target_model": {"source": "hub", "id": "Qwen/Qwen3-8B"},
    "pruning": {"kind": "depth"},
    "gates": {"min_draft_speedup": 1.1},
}

FAMILY: dict[str, Any] = {
    "model": {"source": "hub", "id": "HuggingFaceTB/SmolLM2-135M-Instruct"},
    "pruning": {"kind": "depth", "blocks": 8},
    "recovery": {"kind": "distill"},
    "sizes": {"blocks": [24, 27]},
}

SUBMIT: Any = {
    "local-gguf": {
        "summary": "A local GGUF file, six blocks fewer",
        "description": "The least that a job needs; everything else has a default. The file lies under a model root.",
        "value": LOCAL_GGUF,
    },
    "hub-with-gates": {
        "summary": "A hub model, a fifth of its blocks fewer, with gates",
        "description": "What a pipeline sends: the verdict is `failed` where a gate does not hold.",
        "value": HUB_WITH_GATES,
    },
    "target": {
        "summary": "Four fifths of the parameters, however many blocks that takes",
        "description": "The number of blocks is worked out from the model's config. A number of at least 1 is that "
        "many parameters.",
        "value": TARGET,
    },
    "faster": {
        "summary": "1.3 times as fast, however many blocks that takes",
        "description": "A stage `plan` times a few depths on the worker and takes the least that reaches it; the "
        "report's benchmark confirms it, and fails the job's verdict where it does not.",
        "value": FASTER,
    },
    "within-constraints": {
        "summary": "As fast as it gets within 0.3 nats of the original",
        "description": "Blocks are scored once; a stage `search` bisects the depth with quick healing as a proxy, and "
        "one depth is recovered and measured.",
        "value": WITHIN,
    },
    "against-main": {
        "summary": "No worse than the last result on the main branch",
        "description": "At most 5 % slower and 10 % further from the original than the last job with this label that "
        "passed; until there is one, nothing is compared.",
        "value": AGAINST_MAIN,
    },
    "chosen-after-healing": {
        "summary": "The blocks whose loss heals best",
        "description": "A stage `choose` heals twelve sets that the criterion proposes, distils the best three for 40 "
        "steps each, and takes the one that predicts nearest to the original; the report has the figures of all.",
        "value": AFTER_HEALING,
    },
    "explicit-drop": {
        "summary": "These very blocks, no recovery",
        "description": "Nothing is scored and nothing trained.",
        "value": EXPLICIT_DROP,
    },
    "family-of-sizes": {
        "summary": "One recovery, and two models between it and the original",
        "description": "Original blocks are put back in steps, and nothing is trained again; each model is a variant.",
        "value": FAMILY,
    },
    "halves-of-blocks": {
        "summary": "Twelve halves of blocks fewer",
        "description": "The attention or the MLP of a block, each time the one whose loss hurts least.",
        "value": HALVES,
    },
    "joint": {
        "summary": "1.3 times as fast, by whatever blocks, attentions and MLPs that takes",
        "description": "A stage `costs` times what an attention and an MLP take on the worker; a search then chooses "
        "what goes from each block, and the report has what whole blocks alone would have done.",
        "value": JOINT,
    },
    "experts-of-a-mixture": {
        "summary": "A quarter of a mixture's experts fewer",
        "description": "As many in every block, so that the checkpoint loads as it is. Nothing is trained.",
        "value": EXPERTS,
    },
    "draft": {
        "summary": "A speculative draft of a larger model",
        "description": "As many blocks go as are best by acceptance and cost. Measured beside the target: acceptance, "
        "and the target's speed with the draft against alone.",
        "value": DRAFT,
    },
    "smaller-vocabulary": {
        "summary": "24,000 tokens, those that a text uses most",
        "description": "Rows of embedding and head go, and the tokenizer is rewritten. Nothing is trained; quality is "
        "measured in bits per byte, since figures of tokens do not compare.",
        "value": VOCABULARY,
    },
    "quick-look": {
        "summary": "The fastest job there is",
        "description": "Scores from the weights alone, few timed runs: to see that everything works.",
        "value": QUICK_LOOK,
    },
    "quantised": {
        "summary": "Pruned, recovered, and quantised in three ways",
        "description": "Each way is a variant of its own in the report. Needs rows of whole groups: see the docs.",
        "value": QUANTISED,
    },
}

# As a job shows it, with every default.
QUICK_LOOK_FILLED: dict[str, Any] = CompressionSpec.model_validate(QUICK_LOOK).model_dump(mode="json")
