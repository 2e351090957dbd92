"""Work with the database waits for its turn, and not for ever."""

from __future__ import annotations

import threading

import anyio
import pytest

from app.db import threads
from app.db.threads import POOL_SIZE, in_turn
from secateur.contract.errors import Unavailable


def test_a_crowd_before_a_frozen_database_is_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "TURN_SECONDS", 0.3)
    full, thaw = threading.Barrier(POOL_SIZE + 1), threading.Event()

    def frozen() -> str:
        full.wait(60)
        assert thaw.wait(60)
        return "answered"

    async def crowd() -> None:
        answers: list[str] = []

        async def ask() -> None:
            answers.append(await in_turn(frozen))

        async with anyio.create_task_group() as group:
            for _ in range(POOL_SIZE):
                group.start_soon(ask)
            await anyio.to_thread.run_sync(full.wait, 60)
            with pytest.raises(Unavailable, match="nothing came free") as late:
                await in_turn(lambda: "late")
            assert late.value.headers["Retry-After"] == "5"
            thaw.set()
        assert answers == ["answered"] * POOL_SIZE
        assert [await in_turn(lambda: "in time") for _ in range(2 * POOL_SIZE)] == ["in time"] * 2 * POOL_SIZE

    anyio.run(crowd)


def test_what_breaks_gives_its_turn_back() -> None:
    async def many() -> None:
        for _ in range(2 * POOL_SIZE):
            with pytest.raises(ZeroDivisionError):
                await in_turn(lambda: 1 / 0)
        assert await in_turn(lambda: 1) == 1

    anyio.run(many)
