"""The worker as a program: `python -P -m workers.main`, which `secateur worker` and `secateur up` start.

Celery is run from here and not from its own command line, which puts the current folder before all others that modules
come from.
"""

from __future__ import annotations

import sys

from secateur.contract.errors import ServiceError


def main() -> None:
    """Work until a signal ends it."""
    try:
        from workers.celery_app import app
    except ServiceError as error:
        sys.exit(f"error: {error.detail}")
    sys.exit(app.start(["worker", "--pool", "threads", "--without-gossip", "--without-mingle"]))


if __name__ == "__main__":
    main()
