"""How a draft is put beside its target: lines to copy for transformers, vLLM and llama.cpp.

The target is named as the job named it: a hub id, or a path that a user puts in the place of `TARGET` where the path is
of the service's machine. What a stranger named is quoted for the shell, and written as a string for Python.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from secateur.report.text import one_line
from secateur.report.way import Way

DRAFT_KEY = "draft-"  # of these ways
_NOT_RUN = "This job did not run it."


def draft_ways(spec: Mapping[str, Any], checkpoint: str, gguf: str | None, *, needs_loader: bool) -> list[Way]:
    """What generates with the target and its draft; nothing for a job that makes none.

    Args:
        spec: the job's.
        checkpoint: the folder of the draft's, once it is downloaded.
        gguf: the draft as a file, where the job has made one.
        needs_loader: whether plain transformers cannot load the draft.
    """
    target = spec.get("target_model")
    if spec.get("use") != "draft" or target is None:
        return []
    tokens = (spec["benchmark"].get("draft") or {}).get("tokens", 5)
    on_hub = target["source"] == "hub"
    name = one_line(target["id"] if on_hub else target["path"])
    revision = target.get("revision") if on_hub else None
    file = name if name.lower().endswith(".gguf") else "TARGET.gguf"
    ways = []
    if not needs_loader and not name.lower().endswith(".gguf"):
        python, shell = (write(name, revision, checkpoint, tokens) for write in (_transformers, _vllm))
        ways.append(Way(f"{DRAFT_KEY}transformers", "As a draft in transformers", python))
        ways.append(Way(f"{DRAFT_KEY}vllm", "As a draft in vLLM, in a shell", shell, _NOT_RUN))
    if not needs_loader:
        made = one_line(gguf) if gguf else "result/model.gguf"
        note = (
            f"{_NOT_RUN} Both models as GGUF files; builds from before 2026 call the last option `--draft-max`, and "
            "have no `--spec-type`."
        )
        ways.append(Way(f"{DRAFT_KEY}llama", "As a draft in llama.cpp, in a shell", _llama(file, made, tokens), note))
    return ways


def _transformers(target: str, revision: str | None, checkpoint: str, tokens: int) -> str:
    at = f", revision={json.dumps(revision)}" if revision else ""
    name = json.dumps(target, ensure_ascii=False)
    return (
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f"tokenizer = AutoTokenizer.from_pretrained({name}{at})\n"
        f'target = AutoModelForCausalLM.from_pretrained({name}, dtype="auto"{at})\n'
        f'draft = AutoModelForCausalLM.from_pretrained("{checkpoint}", dtype="auto")\n'
        f"draft.generation_config.num_assistant_tokens = {tokens}\n"
        'draft.generation_config.num_assistant_tokens_schedule = "constant"\n'
        "draft.generation_config.assistant_confidence_threshold = 0.0\n\n"
        'inputs = tokenizer("The history of the city begins", return_tensors="pt")\n'
        "ids = target.generate(**inputs, assistant_model=draft, do_sample=False, max_new_tokens=64)\n"
        "print(tokenizer.decode(ids[0]))\n"
    )


def _vllm(target: str, revision: str | None, checkpoint: str, tokens: int) -> str:
    settings = {"method": "draft_model", "model": checkpoint, "num_speculative_tokens": tokens}
    at = f" --revision {shlex.quote(revision)}" if revision else ""
    return f"vllm serve {shlex.quote(target)}{at} \\\n  --speculative-config {shlex.quote(json.dumps(settings))}\n"


def _llama(target: str, draft: str, tokens: int) -> str:
    return (
        f"llama-server -m {shlex.quote(target)} -md {shlex.quote(draft)} \\\n"
        f"  --spec-type draft-simple --spec-draft-n-max {tokens}\n"
    )
