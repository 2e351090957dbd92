"""Sockets to listen on, bound before anything is started: a port that another program has is told at once."""

from __future__ import annotations

import errno
import socket

from secateur.contract.errors import Unavailable


def bind(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of `host`, all on one port; 0 chooses a free one. Nothing listens yet.

    Raises:
        Unavailable: the port is another program's, or the host is none of this machine's.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise Unavailable(f"there is no address to listen on for SECATEUR_HOST={host}: {error.strerror}") from None
    addresses = dict.fromkeys((family, address[:2]) for family, _, _, _, address in found)
    sockets: list[socket.socket] = []
    trouble: OSError | None = None
    for family, (address, _) in addresses:
        try:
            listener = _bound(family, str(address), port or (sockets[0].getsockname()[1] if sockets else 0))
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                trouble = error  # `localhost` has an IPv6 address also where there is no IPv6
                continue
            _close(sockets)
            raise Unavailable(_told(error, host, port)) from None
        sockets.append(listener)
    if not sockets:
        raise Unavailable(_told(trouble, host, port))
    return sockets


def _bound(family: int, address: str, port: int) -> socket.socket:
    # The protocol is said in full: asyncio turns Nagle's algorithm off only for sockets that say TCP. With it, every
    # answer of a connection that is kept open waits 40 ms for the client to acknowledge its head.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # right after a service that has just ended
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        # On Linux two sockets that nobody listens on yet can share a port; the second to listen is refused.
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def _close(sockets: list[socket.socket]) -> None:
    for listener in sockets:
        listener.close()


def _told(error: OSError | None, host: str, port: int) -> str:
    if error is not None and error.errno == errno.EADDRINUSE:
        return (
            f"port {port} of {host} is in use by another program: stop that one, or choose another port with --port "
            "or SECATEUR_PORT (0: one that is free)"
        )
    if error is not None and error.errno in (errno.EACCES, errno.EPERM):
        return f"port {port} of {host} is not for this account: choose one above 1023 with --port or SECATEUR_PORT"
    return f"cannot listen on port {port} of {host}: {error.strerror if error else 'no address'}"
