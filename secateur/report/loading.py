"""How the model that a job hands out is fetched and loaded: commands with its own paths, for the page and the report.

Only what can load the checkpoint is named. Of a checkpoint whose shapes its config cannot say, that is its own loader.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from secateur.contract.measurements import EngineCell, Measurement
from secateur.contract.results import Pruned, Recovered
from secateur.contract.rounds import FIRST, key_in
from secateur.contract.stage_kinds import PRUNE, RECOVER
from secateur.report.draft_lines import draft_ways
from secateur.report.text import one_line
from secateur.report.way import Way

FOLDER = "result"  # into which the commands download
LOADER = "modeling_secateur"  # the module that lies beside weights which only it can load


_NOT_RUN = "This job did not run it."


def ways_to_load(
    job_id: UUID,
    pruned: Pruned,
    recovered: Recovered | None,
    *,
    spec: Mapping[str, Any],
    measured: Measurement | None = None,
    number: int = FIRST,
) -> list[Way]:
    """The download first, then everything that loads what was downloaded; of a draft also beside its target.

    Args:
        spec: the job's.
        number: the round of the job that is handed out.
        measured: the figures of what is loaded, where there are any yet: they tell under what it was run.
    """
    by_vllm, by_llama_cpp = (measured.vllm, measured.llama_cpp) if measured else ([], [])
    kind, gguf = (RECOVER, recovered.gguf) if recovered else (PRUNE, pruned.gguf)
    stage = key_in(kind.name, number)
    checkpoint = f"{FOLDER}/{stage}/checkpoint"
    ways = [Way("download", "Download, in a shell", f"secateur download {job_id} {FOLDER} --prefix {stage}/\n")]
    ways.append(_transformers(checkpoint, pruned))
    if pruned.decilm or not pruned.needs_loader:
        ways.append(Way("vllm", "vLLM, in a shell", f"vllm serve {checkpoint}\n", _ran(by_vllm)))
    if gguf:
        path = one_line(f"{FOLDER}/{stage}/{gguf.path}")
        command = f"llama-cli -m {shlex.quote(path)}\n"  # a stranger may have named the file
        ways.append(Way("llama", "llama.cpp, in a shell", command, _ran(by_llama_cpp)))
    elif not pruned.needs_loader:
        convert = f"python convert_hf_to_gguf.py {checkpoint} --outfile {FOLDER}/model.gguf\n"
        note = "In a clone of llama.cpp; for the families that it knows. " + _NOT_RUN
        ways.append(Way("llama", "llama.cpp, in a shell", f"{convert}llama-cli -m {FOLDER}/model.gguf\n", note))
    file = f"{FOLDER}/{stage}/{gguf.path}" if gguf else None
    return [*ways, *draft_ways(spec, checkpoint, file, needs_loader=pruned.needs_loader)]


def _ran(cells: Sequence[EngineCell]) -> str:
    return f"This job timed it under {cells[0].build}." if cells else _NOT_RUN


def _transformers(checkpoint: str, pruned: Pruned) -> Way:
    if pruned.decilm:
        note = "The config is DeciLM's, whose code lies beside the weights; it runs only when told to."
        return Way("transformers", "transformers, in Python", transformers_code(checkpoint, remote_code=True), note)
    if pruned.needs_loader:
        code = (
            "import sys\n\nfrom transformers import AutoTokenizer\n\n"
            f'sys.path.insert(0, "{checkpoint}")\n'
            f'from {LOADER} import load\n\nmodel = load("{checkpoint}")\n'
            f'tokenizer = AutoTokenizer.from_pretrained("{checkpoint}")\n'
        )
        note = "Plain transformers cannot load this checkpoint; the loader beside its weights can."
        return Way("transformers", "transformers, in Python", code, note)
    return Way("transformers", "transformers, in Python", transformers_code(checkpoint))


def transformers_code(checkpoint: str, *, remote_code: bool = False) -> str:
    """What loads a checkpoint and its tokenizer with plain transformers, or with the code that lies beside them."""
    trust = ", trust_remote_code=True" if remote_code else ""
    return (
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'model = AutoModelForCausalLM.from_pretrained("{checkpoint}", dtype="auto"{trust})\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{checkpoint}"{trust})\n'
    )
