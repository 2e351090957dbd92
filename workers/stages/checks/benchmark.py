"""Check of what is measured: this machine can compile where that is asked, and every task is there with its data."""

from __future__ import annotations

from workers.engine.benchmarks.compiling import refuse_uncompilable
from workers.engine.benchmarks.tasks import load_tasks
from workers.engine.checkpoints.kernels import why_not_computable
from workers.stages.checks.subject import Subject


def latency(subject: Subject) -> str | None:
    """Raises InvalidInput."""
    options = subject.spec.benchmark.latency
    if options is None:
        return None
    if options.compile:
        refuse_uncompilable(str(subject.machine.device))
    return f"{len(set(options.batch_sizes)) * len(set(options.output_tokens))} cells"


def tasks(subject: Subject) -> str | None:
    """Raises InvalidInput or Unavailable."""
    options = subject.spec.benchmark.tasks
    if options is None:
        return None
    if why_not_computable(subject.config) is not None:
        return None  # then sizes alone are told
    return ", ".join(load_tasks(options, roots=subject.context.stage.runtime.data_roots))
