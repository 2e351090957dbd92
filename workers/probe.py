"""The probe: a process that is started as a stage is, and tries the worker's device out.

It is a fork of the server that stages are forked from, so what is wrong with that server is seen too: that it has
started the GPU's driver, say, after which no fork of it can. The Celery process itself never touches a device.

`spec_path` holds `{"device": …, "threads": …}`; the one line of the answer is `{"working": {…}}` or `{"problem": {…}}`.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from pathlib import Path

from secateur.contract.errors import ServiceError
from workers.stages.failure import describe_failure


def main(spec_path: Path, answer: int) -> int:
    """Try the device, and say how it went."""
    from workers.engine.device import probe  # torch

    logging.captureWarnings(True)
    logging.basicConfig(format="%(message)s", force=True)  # into the probe's log, which the worker shows
    warnings.simplefilter("once")
    told: dict[str, object]
    try:
        asked = json.loads(spec_path.read_bytes())
        told = {"working": probe(asked["device"], threads=asked["threads"]).model_dump()}
    except ServiceError as error:
        told = {"problem": error.detail}
    except Exception as error:
        told = {"problem": describe_failure(error).detail}
    os.write(answer, json.dumps(told).encode() + b"\n")
    return 0
