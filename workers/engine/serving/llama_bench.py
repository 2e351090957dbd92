"""llama.cpp by its own `llama-bench`: one run of the program for each time that is taken.

The program loads the model, warms up, and times a prompt and a generation apart; the generation begins with an empty
cache. It makes its own tokens, and neither tokenising nor sampling is in its times.

Format: https://github.com/ggml-org/llama.cpp/blob/master/tools/llama-bench/README.md, `-o json`.
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from workers.engine.serving.runner import STARTING, Asked, EngineFailed, Load, Took, kill_with_children, last_said

ALL_LAYERS = 99  # on the GPU


class LlamaBench:
    """A Runner."""

    def __init__(self, load: Load, *, program: str) -> None:
        self._load, self._program = load, program
        self._process: subprocess.Popen[str] | None = None
        self.build = "llama-bench"

    def time(self, asked: Asked) -> Took:
        [prompt] = asked.prompts
        rows = self._run(len(prompt), asked.output_tokens - 1, patience=STARTING + 2 * asked.patience)
        seconds = {(row["n_prompt"], row["n_gen"]): row["samples_ns"][-1] / 1e9 for row in rows}
        self.build = f"llama-bench, build {rows[0]['build_number']} ({rows[0]['build_commit']})"
        read, generated = seconds[len(prompt), 0], seconds[0, asked.output_tokens - 1]
        return Took(read, read + generated)

    def close(self) -> None:
        if self._process is not None:
            kill_with_children(self._process.pid)

    def _run(self, prompt: int, generated: int, *, patience: float) -> list[dict[str, Any]]:
        load = self._load
        command = [self._program, "-m", str(load.model), "-p", str(prompt), "-n", str(generated), "-r", "1"]
        command += ["-t", str(load.threads), "-ngl", str(ALL_LAYERS if load.gpu else 0), "-o", "json"]
        environment = dict(os.environ) if load.gpu else {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env=environment,
            )
        except OSError as error:
            raise EngineFailed(f"cannot be started: {error.strerror}") from error
        with self._process as process:
            try:
                said, complaint = process.communicate(timeout=patience)
            except subprocess.TimeoutExpired:
                self.close()
                raise EngineFailed(f"took more than {patience:,.0f} s") from None
            except BaseException:
                self.close()
                raise
        self._process = None
        if process.returncode:
            raise EngineFailed(f"ended with exit status {process.returncode}{last_said(complaint)}")
        try:
            rows = json.loads(said)
            found = {(row["n_prompt"], row["n_gen"]) for row in rows if row["samples_ns"][-1] > 0}
            if not {(prompt, 0), (0, generated)} <= found:
                raise ValueError
        except (ValueError, LookupError, TypeError):
            raise EngineFailed(f"gave no times{last_said(said)}") from None
        return list(rows)
