"""The API as a program: `python -P -m app.serve`, which `secateur api` and `secateur up` start.

uvicorn is run from here and not from its own command line, which puts the current folder before all others that
modules come from. The sockets are made here, or, under `up`, by the process above, which keeps them over restarts: so a
port in use is told at once, and the port stays the service's own while the API is started again.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import socket
import sys
from functools import partial
from typing import cast

import uvicorn

from app import tracing
from app.http.connections import Connection, Limits
from app.http.listening import bind
from app.logs import set_up
from app.main import create_app
from app.settings import Settings, get_settings
from secateur.contract.errors import ServiceError

MOST_DESCRIPTORS = 65_536
MOST_CONNECTIONS = 4096
OWN_DESCRIPTORS = 96  # databases, broker, files that are sent, and some more
GRACE_SECONDS = 3  # of a shutdown; event streams stay open, are ended, and their clients are not waited for


def raise_descriptors() -> int:
    """Take as many descriptors as the system allows, up to `MOST_DESCRIPTORS`; how many there are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def server(settings: Settings, *, descriptors: int) -> uvicorn.Server:
    """The server, ready to run on sockets. So many descriptors are shared by connections and all else."""
    backlog = max(16, min(2048, descriptors // 8))  # as many are taken in at once
    connections = max(16, min(MOST_CONNECTIONS, descriptors - OWN_DESCRIPTORS - backlog))
    config = uvicorn.Config(
        create_app(settings, most_streams=connections // 2),
        http=cast("type[asyncio.Protocol]", partial(Connection, limits=Limits(connections))),
        backlog=backlog,
        log_config=None,  # see app.logs
        access_log=False,  # app.http has a line for each request, with its id
        ws="none",  # there are no websockets
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return uvicorn.Server(config)


def main() -> None:
    """Serve until a signal ends it."""
    parser = argparse.ArgumentParser(prog="python -P -m app.serve", description="Started by `secateur api` and `up`.")
    parser.add_argument("--fd", type=int, action="append", default=[], help="a socket that is bound; repeatable")
    arguments = parser.parse_args()
    settings = get_settings()
    set_up(settings.log_level, form=settings.log_format, secrets=settings.secrets, urls=settings.urls)
    try:
        tracing.start(settings.otlp_endpoint, service="secateur-api")
        sockets = [socket.socket(fileno=fd) for fd in arguments.fd] or bind(settings.host, settings.port)
    except ServiceError as error:
        sys.exit(f"error: {error.detail}")
    server(settings, descriptors=raise_descriptors()).run(sockets=sockets)


if __name__ == "__main__":
    main()
