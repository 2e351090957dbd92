"""A job from Python: submit, follow, judge, download.

python examples/submit.py MODEL.gguf BLOCKS [FOLDER]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from secateur import Client
from secateur.client.errors import ClientError, InvalidRequest
from secateur.schemas.events import Event

GATE_FAILED = 10  # as `secateur gate` has it


def tell(event: Event) -> None:
    """One line per event."""
    print(f"{event.seq:5} {event.stage or 'job':9} {event.type:8} {event.data}")


def main(model: str, blocks: int, folder: Path) -> int:
    spec = {
        "model": {"source": "local", "path": model},
        "scoring": {"criterion": "magnitude"},
        "pruning": {"kind": "depth", "blocks": blocks},
        "recovery": {"kind": "none"},
        "gates": {"min_speedup": 1.05},
    }
    with Client() as client:  # SECATEUR_URL and SECATEUR_API_KEY say where, and with which key
        job = client.jobs.wait(client.jobs.create(spec).id, on_event=tell)
        if job.state != "succeeded":
            print(f"{job.state}: {job.problem.detail if job.problem else ''}")
            return 1
        report = client.jobs.report(job.id)
        for gate in report.gates:
            print("passed" if gate.passed else "FAILED", gate.message)
        for path in client.jobs.download(job.id, folder, prefix="prune/checkpoint/"):
            print(path)
    return GATE_FAILED if job.verdict == "failed" else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Submit a job, follow it, judge it and download its checkpoint.")
    parser.add_argument("model", help="a .gguf file or a folder under the service's model roots")
    parser.add_argument("blocks", type=int, help="how many blocks to remove")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("result"), help="where the checkpoint goes")
    given = parser.parse_args()
    try:
        sys.exit(main(given.model, given.blocks, given.folder))
    except InvalidRequest as error:
        for field in error.problem.errors or []:
            print(f"{field.pointer}: {field.detail}; expected: {field.expected}", file=sys.stderr)
        sys.exit(error.problem.detail)
    except ClientError as error:
        sys.exit(str(error))
