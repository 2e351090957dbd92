"""Sockets to listen on."""

from __future__ import annotations

import asyncio
import socket

import pytest

from app.http.listening import bind
from secateur.contract.errors import Unavailable


def test_what_is_sent_on_its_connections_does_not_wait_for_more() -> None:
    async def delayed() -> bool:
        """Whether a server's connection holds small packets back until the client has acknowledged those before."""
        (listener,) = bind("127.0.0.1", 0)
        seen: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        async def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            taken: socket.socket = writer.get_extra_info("socket")
            seen.set_result(taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0)
            writer.close()

        async with await asyncio.start_server(connected, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            try:
                return await asyncio.wait_for(seen, 30)
            finally:
                writer.close()

    assert not asyncio.run(delayed())


def test_a_port_that_is_in_use_is_told() -> None:
    (first,) = bind("127.0.0.1", 0)
    with first:
        port = first.getsockname()[1]
        with pytest.raises(Unavailable, match=rf"port {port} of 127\.0\.0\.1 is in use"):
            bind("127.0.0.1", port)


def test_a_host_that_is_none_of_this_machines_is_told() -> None:
    with pytest.raises(Unavailable, match=r"cannot listen on port 0 of 192\.0\.2\.1"):
        bind("192.0.2.1", 0)
