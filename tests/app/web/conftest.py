"""A real browser on the service under test, for the files whose pages need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI

from tests.fixtures.browser import Browser, browsing
from tests.fixtures.live import serving


@pytest.fixture
def url(application: FastAPI) -> Iterator[str]:
    with serving(application) as url:
        yield url


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def quiet_console(browser: Browser, url: str) -> Iterator[None]:
    """No script fails, and nothing is refused by the pages' own policy."""
    browser.console()
    yield
    lines = browser.console()
    browser.open("about:blank")  # before the server stops: an open page would look for it
    assert [line for line in lines if "422" not in line] == []
