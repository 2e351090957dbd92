"""Lines of the log: secrets do not reach them, tracebacks included, and each tells its request."""

from __future__ import annotations

import io
import logging
import subprocess
import sys

from app.logs import Redacting, request_id

PROGRAM = """
import logging, sys, threading, warnings
from app.logs import set_up
set_up("info", secrets=["key-of-someone"], urls=["postgresql://u:hunter2@db/x", None])
logging.getLogger("any.library").error("opening with hunter2 and %s", "key-of-someone")
warnings.warn("hunter2 again")
thread = threading.Thread(target=lambda: 1 / len("hunter2"[:0]), name="hunter2's")
thread.start(); thread.join()
raise RuntimeError("host=db password=hunter2")
"""


def test_tracebacks_are_redacted_too() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Redacting())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    try:
        raise ValueError("redis://:secret@host")
    except ValueError:
        logger.exception("cannot reach %s", "redis://:secret@host")
    assert "secret" not in stream.getvalue()
    assert stream.getvalue().count("redis://:***@host") == 3  # the message, the line of code, the exception


def test_a_record_tells_its_request() -> None:
    def line(**extra: str) -> str:
        record = logging.LogRecord("app.http", logging.INFO, "", 0, "said", (), None)
        record.__dict__.update(extra)
        return Redacting().format(record).partition(" INFO ")[2]

    assert line() == "app.http: said"
    assert line(request_id="r-1") == "app.http [request r-1]: said"
    token = request_id.set("r-2")
    try:
        assert line() == "app.http [request r-2]: said"
    finally:
        request_id.reset(token)


def test_whatever_a_process_says_is_masked() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "hunter2" not in done.stderr + done.stdout
    assert "key-of-someone" not in done.stderr
    for said in ("opening with *** and ***", "UserWarning: *** again", "ZeroDivisionError", "password=***"):
        assert said in done.stderr
