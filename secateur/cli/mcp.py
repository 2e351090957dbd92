"""`secateur mcp`: the service as tools of an agent."""

from __future__ import annotations

from secateur.about import install_with
from secateur.cli.session import usage


def mcp() -> None:
    """Serve an agent over standard input and output, by the Model Context Protocol.

    It takes the service and the key from SECATEUR_URL and SECATEUR_API_KEY. An agent may submit, read, cancel and
    retry; it cannot delete.
    """
    try:
        from secateur.agents import server
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("mcp"):
            raise
        raise usage(f"the package `mcp` is missing; the client's extra brings it: {install_with('mcp')}") from None
    server().run()
