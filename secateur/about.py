"""What the project is called, its version, and how its client is installed: said here, and nowhere else.

The client and the server are two distributions of one version. The client's name on the package index is not the
import's: `secateur` alone belongs to somebody else there, and installing it would run a stranger's code.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0"
CLIENT: Final = "secateur-client"
SERVER: Final = "secateur-server"
ADDRESS: Final = "SECATEUR_PACKAGE"  # the variable in which a pipeline keeps the address of its wheel or commit
INSTALL: Final = f'pip install "{CLIENT} @ ${ADDRESS}"'  # never from the index, and an error without an address


def install_with(extra: str) -> str:
    """The line that installs the client with one of its extras."""
    return INSTALL.replace(CLIENT, f"{CLIENT}[{extra}]")
