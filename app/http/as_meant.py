"""What a request says in vain: a parameter of the query that its operation has not, or a key that its body has twice.

The framework passes over the one, and takes the last of the other. So `GET /jobs?state=failed`, where the parameter is
called `status`, would list all jobs, and of a spec with two seeds one would be used, without a word. As in a body, a
name that does not exist is an error and not a shrug.
"""

from __future__ import annotations

from typing import Any

from fastapi import Request

from secateur.contract.catalog import near_name
from secateur.contract.errors import FieldError, InvalidInput
from secateur.contract.json_text import load_json
from secateur.contract.shown import shortened
from secateur.contract.validation_errors import pointer_of


async def refuse_what_is_passed_over(request: Request) -> None:
    """A dependency of every operation of the API. Raises InvalidInput."""
    route = request.scope["route"]
    if request.query_params:
        known = _query_names(route)
        if strange := [name for name in request.query_params if name not in known]:
            raise InvalidInput.fields([_strange(name, known) for name in strange])
    if route.body_field is not None and (key := _twice(await request.body())) is not None:  # which has been read
        name = shortened(str(key[-1]))
        detail = f"the key `{name}` stands twice in the same object of the body"
        raise InvalidInput.field(pointer_of(key), detail, value=name, expected="each key once")


def _query_names(route: Any) -> tuple[str, ...]:
    """All parameters of the query that an operation takes, those of its dependencies too."""
    names, waiting = [], [route.dependant]
    while waiting:
        dependant = waiting.pop()
        names += [parameter.alias for parameter in dependant.query_params]
        waiting += dependant.dependencies
    return tuple(dict.fromkeys(names))


def _strange(name: str, known: tuple[str, ...]) -> FieldError:
    near = near_name(name, known)
    hint = f"; did you mean `{near}`?" if near else ""
    detail = f"there is no query parameter `{shortened(name)}` here{hint}"
    expected = f"one of {', '.join(known)}" if known else "no query"
    return FieldError("", detail, shortened(name), expected, f"query {shortened(name)}")


class _Object(dict[str, Any]):
    twice: str | None = None


def _paired(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = _Object(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        found.twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return found


def _twice(body: bytes) -> tuple[str | int, ...] | None:
    """The path of a key that stands twice; None too of what is no JSON, which the framework tells."""
    try:
        value = load_json(body, pairs=_paired)
    except (ValueError, RecursionError):
        return None
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while waiting:
        path, here = waiting.pop()
        if isinstance(here, _Object) and here.twice is not None:
            return (*path, here.twice)
        held = here.items() if isinstance(here, dict) else enumerate(here) if isinstance(here, list) else ()
        waiting += [((*path, name), item) for name, item in held if isinstance(item, dict | list)]
    return None
