"""What is usual of a job that makes a draft, where its spec says nothing of it.

A draft is measured beside its target, and learns from it: what the target predicts, on what the target answers to
prompts, since that is what it will be asked to propose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateur.contract.options.recovery import USUAL_RECOVERY

_KIND = USUAL_RECOVERY.model_fields["kind"].default


def as_a_draft(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a spec with that filled in; what is there, and be it null, stays.

    >>> as_a_draft({"use": "draft"})["recovery"]
    {'kind': 'distill', 'text': {'source': 'answers'}}
    """
    filled = dict(spec)
    benchmark, recovery = spec.get("benchmark", {}), spec.get("recovery", {})
    if isinstance(benchmark, Mapping):
        filled["benchmark"] = {"draft": {}, **benchmark}
    if isinstance(recovery, Mapping) and recovery.get("kind", _KIND) == _KIND:
        filled["recovery"] = {"kind": _KIND, "text": {"source": "answers"}, **recovery}
    return filled
