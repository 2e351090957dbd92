"""Lines of the log: JSON or for people, each with its time and on whose behalf; secrets do not reach them."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
from typing import Any

import pytest
from structlog.contextvars import bound_contextvars, clear_contextvars

from app.logs import formatter

PROGRAM = """
import logging, sys, threading, warnings
from app.logs import set_up
set_up("info", form="FORM", secrets=["key-of-someone"], urls=["postgresql://u:hunter2@db/x", None])
logging.getLogger("any.library").error("opening with hunter2 and %s", "key-of-someone")
warnings.warn("hunter2 again")
thread = threading.Thread(target=lambda: 1 / len("hunter2"[:0]), name="hunter2's")
thread.start(); thread.join()
print("printed: hunter2", file=sys.stderr)
raise RuntimeError("host=db password=hunter2")
"""
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


def said(form: str = "json") -> str:
    program = PROGRAM.replace("FORM", form)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "hunter2" not in done.stderr + done.stdout
    assert "key-of-someone" not in done.stderr
    return done.stderr


def line(record: logging.LogRecord) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(formatter("json", terminal=False).format(record))
    return found


def record(message: str = "said", **more: object) -> logging.LogRecord:
    made = logging.LogRecord("app.http", logging.INFO, "", 0, message, (), None)
    made.__dict__.update(more)
    return made


@pytest.fixture(autouse=True)
def nothing_bound() -> None:
    """What a supervisor has bound in this thread, in the test of another file, is not in these lines."""
    clear_contextvars()


def test_every_line_of_a_process_is_an_object_with_the_same_fields() -> None:
    *lines, printed, uncaught = said("auto").splitlines()
    assert printed == "printed: ***"
    told = [json.loads(text) for text in [*lines, uncaught]]
    assert all(re.fullmatch(TIME, line["time"]) for line in told)
    assert [(line["level"], line["logger"]) for line in told] == [
        ("error", "any.library"),
        ("warning", "py.warnings"),
        ("critical", "app"),
        ("critical", "app"),
    ]
    assert told[0]["message"] == "opening with *** and ***"
    assert "UserWarning: *** again" in told[1]["message"]
    assert "ZeroDivisionError" in told[2]["exception"]
    assert told[3]["exception"].endswith("RuntimeError: host=db password=***")


def test_for_people_a_line_is_words() -> None:
    lines = said("console").splitlines()
    assert re.fullmatch(TIME + r" \[error +\] opening with \*\*\* and \*\*\* +\[any\.library\]", lines[0].rstrip())
    assert lines[-1] == "RuntimeError: host=db password=***"


@pytest.mark.parametrize(("form", "terminal", "coloured"), [("auto", True, True), ("console", False, False)])
def test_colours_are_for_terminals(form: Any, terminal: bool, coloured: bool) -> None:
    assert ("\x1b[" in formatter(form, terminal=terminal).format(record())) is coloured


def test_a_line_tells_on_whose_behalf_it_was_written() -> None:
    with bound_contextvars(stage="score", attempt=2, request_id="r-1", job_id="j-1"):
        told = line(record(status=404, secret_of_a_library=object()))
    assert list(told) == ["time", "level", "logger", "message", "request_id", "job_id", "stage", "attempt", "status"]
    assert told["message"] == "said"
    assert (told["request_id"], told["job_id"], told["stage"], told["attempt"]) == ("r-1", "j-1", "score", 2)
    assert list(line(record())) == ["time", "level", "logger", "message"]


def test_tracebacks_are_masked_too() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter("json", terminal=False))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    try:
        raise ValueError("redis://:secret@host")
    except ValueError:
        logger.exception("cannot reach %s", "redis://:secret@host")
    assert "secret" not in stream.getvalue()
    told = json.loads(stream.getvalue())
    assert told["message"] == "cannot reach redis://:***@host"
    assert told["exception"].count("redis://:***@host") == 2  # the line of code, the exception


def test_what_is_masked_stays_json() -> None:
    with bound_contextvars(request_id='{"password": "hunter2"}'):
        told = line(record('the body was {"password": "hunter2", "n": 1}'))
    assert told["message"] == 'the body was {"password": ***, "n": 1}'
    assert told["request_id"] == '{"password": ***}'


def test_what_a_library_would_print_by_itself_goes_the_same_way() -> None:
    program = (
        "import logging\n"
        "from app import logs\n"
        "library = logging.getLogger('some.library')\n"
        "library.addHandler(logging.StreamHandler()); library.propagate = False\n"
        "logs.set_up('info'); logs.take_over()\n"
        "library.warning('said'); library.debug('not said')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    told = json.loads(done.stderr)  # one line
    assert (told["logger"], told["message"]) == ("some.library", "said")
