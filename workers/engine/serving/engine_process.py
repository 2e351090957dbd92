"""The process of an engine: `python -m workers.engine.serving.engine_process MODULE` answers lines of JSON with such.

The first line says what to load (`Load`), each further one what to generate (`Asked`); the answers are the engine's
build, and seconds (`Took`). Engines write to their standard output, so the answers go to a copy of it that they do not
know, and what they write goes where their complaints do. It ends when nobody asks any more.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import Any


def main(module: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    engine: Any = import_module(f"workers.engine.serving.{module}")
    generate = None
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if generate is None:
                build, generate = engine.load(asked)
                answer: dict[str, Any] = {"build": build}
            else:
                prompt, total = generate(asked["prompts"], asked["output_tokens"])
                answer = {"prompt": prompt, "total": total}
        except Exception as error:  # whatever an engine raises
            answer = {"failed": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    os._exit(0)  # an engine's threads are not waited for


if __name__ == "__main__":
    main(sys.argv[1])
