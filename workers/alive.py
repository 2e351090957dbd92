"""Whether the worker of this host answers: `python -P -m workers.alive`, the health check of its container.

Celery's own command line would do, if it did not put the current folder before all others that modules come from.
"""

from __future__ import annotations

import argparse
import socket
import sys

from secateur.contract.errors import ServiceError

SECONDS = 10.0  # to wait for the answer


def main() -> None:
    """End with 0 where it answers, and with 1 and a line where it does not."""
    parser = argparse.ArgumentParser(prog="python -m workers.alive", description="Whether this host's worker answers.")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    seconds = parser.parse_args().seconds
    try:
        from app.broker.queue import get_celery

        name = f"celery@{socket.gethostname()}"
        answers = get_celery().control.inspect(destination=[name], timeout=seconds).ping()
    except ServiceError as error:
        sys.exit(f"error: {error.detail}")
    except Exception as error:  # whatever the broker's client raises: there is no answer
        sys.exit(f"no answer: {type(error).__name__}")
    if not answers:
        sys.exit(f"{name} does not answer")


if __name__ == "__main__":
    main()
