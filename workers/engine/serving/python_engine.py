"""An engine that is a Python package, in a process that loads one model and is asked for one time after the other.

The process is `engine_process.py`; question and answer are lines of JSON. What it says otherwise goes into a file,
whose end is told where it fails.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workers.engine.serving.runner import STARTING, Asked, EngineFailed, Load, Took, kill_with_children, last_said

_ROOT = Path(__file__).resolve().parents[3]  # where `workers` lies
_TAIL = 20_000  # bytes of what it said


class PythonEngine:
    """A Runner."""

    def __init__(self, load: Load, *, module: str) -> None:
        """Start the process and load the model.

        Args:
            module: of this room, such as "with_vllm".

        Raises:
            EngineFailed: the model cannot be loaded.
        """
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        if not load.gpu:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "workers.engine.serving.engine_process", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=environment,
        )
        self._rest = b""
        try:
            self.build = str(self._ask({**asdict(load), "model": str(load.model)}, patience=STARTING)["build"])
        except BaseException:
            self.close()
            raise

    def time(self, asked: Asked) -> Took:
        answer = self._ask(asdict(asked), patience=asked.patience)
        return Took(**answer)

    def close(self) -> None:
        kill_with_children(self._process.pid)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            if pipe is not None:
                pipe.close()

    def _ask(self, question: dict[str, Any], *, patience: float) -> dict[str, Any]:
        assert self._process.stdin is not None, "it has a pipe"
        try:
            os.write(self._process.stdin.fileno(), json.dumps(question).encode() + b"\n")
        except BrokenPipeError:
            raise self._ended() from None
        answer: dict[str, Any] = json.loads(self._line(patience))
        if "failed" in answer:
            raise EngineFailed(f"failed: {answer['failed']}")
        return answer

    def _line(self, patience: float) -> bytes:
        """The next line that it answers."""
        assert self._process.stdout is not None, "it has a pipe"
        until = time.monotonic() + patience
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(0.0, until - time.monotonic())):
                    raise EngineFailed(f"took more than {patience:,.0f} s")
                more = os.read(self._process.stdout.fileno(), 65536)
                if not more:
                    raise self._ended()
                self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _ended(self) -> EngineFailed:
        """What there is to say of a process that has closed its pipe, which is the last thing it does."""
        code = self._process.wait()
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - _TAIL))
        said = last_said(self._said.read().decode(errors="replace"))
        how = f"ended with exit status {code}" if code >= 0 else f"was ended by signal {-code}"
        return EngineFailed(how + said)
