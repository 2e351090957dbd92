"""`secateur doctor`: what of this machine and its settings would keep the service from its work, and how to mend it.

It runs on the machine of the service, where the settings and the driver are. Torch is asked in a process of its own:
an API host has none, and a broken one may end the process that imports it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from app.local.settings_of import leave_current_folder, settings_of_environment, unusable
from secateur.cli.session import Exit, out
from secateur.contract.numbers import size

if TYPE_CHECKING:
    from app.settings import Settings

LEAST_FREE_BYTES = 10e9  # a small model, its cuts and its checkpoints
TORCH_SECONDS = 120.0  # to import torch and look for devices
HUB_SECONDS = 5.0
DRIVER = Path("/proc/driver/nvidia/version")
LIBRARIES = ("secateur-client", "secateur-server", "torch", "transformers")

_ASK_TORCH = """
import json, torch
found = {"cuda": torch.version.cuda, "devices": [], "error": None}
try:
    torch.cuda.init()
    found["devices"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
except Exception as error:
    found["error"] = str(error).splitlines()[0]
print(json.dumps(found))
"""
_MEND = {
    "database": "see that PostgreSQL runs, and that SECATEUR_DATABASE_URL has its address, user and password",
    "migrations": "run `secateur migrate`",
    "broker": "see that Valkey or Redis runs, and that SECATEUR_REDIS_URL has its address and password",
    "store": "see that SECATEUR_ARTIFACTS_URL names a place where this account may write",
}

State = Literal["ok", "note", "wrong"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: State
    detail: str
    mend: str = ""


def doctor(as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False) -> None:
    """Look at database, broker, store, disk, GPU, hub and versions: what is wrong, and how to mend it.

    It runs on the machine of the service, with its SECATEUR_* settings. Ends with 0 where nothing is wrong, else 40.
    """
    leave_current_folder()
    settings = settings_of_environment()
    wrong = False
    for finding in _findings(settings):
        wrong = wrong or finding.state == "wrong"
        if as_json:
            print(json.dumps(asdict(finding)), flush=True)
            continue
        mark = {"ok": "[green]✓[/]", "note": "[yellow]·[/]", "wrong": "[red]✗[/]"}[finding.state]
        out.print(mark, end=" ")
        out.print(f"{finding.name}: {finding.detail}", markup=False, highlight=False, soft_wrap=True)
        if finding.mend:
            out.print(f"  → {finding.mend}", markup=False, highlight=False, soft_wrap=True)
    if wrong:
        raise typer.Exit(Exit.SERVICE)


def _findings(settings: Settings) -> Iterator[Finding]:
    yield _versions()
    yield from _services(settings)
    yield from _folders(settings)
    yield _disk(settings.data_dir)
    yield gpu(_ask_torch(), device=settings.device, driver=DRIVER.exists())
    yield _hub()


def _versions() -> Finding:
    return Finding(
        "versions", "ok", ", ".join([f"Python {sys.version.split()[0]}", *filter(None, map(_of, LIBRARIES))])
    )


def _of(library: str) -> str:
    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:
        return ""


def _services(settings: Settings) -> Iterator[Finding]:
    import asyncio  # takes as long to load as the overview of commands

    from app.deps import celery_for, store_at
    from app.services.readiness import Prober

    private = [
        *(["database", "migrations", "workers"] if settings.database_url is None else []),
        *(["broker"] if settings.redis_url is None else []),
    ]
    prober = Prober(settings, celery=lambda: celery_for(settings), store=lambda: store_at(settings.store_url))
    try:
        checks = asyncio.run(prober.ask()).checks
    finally:
        prober.close()
    for name, check in checks.items():
        if name in private:
            if name not in ("migrations", "workers"):
                yield Finding(name, "ok", "none is set: `secateur up` starts a private one")
        elif check.ok or not check.needed:
            yield Finding(name, "ok" if check.ok else "note", check.detail)
        else:
            yield Finding(name, "wrong", check.detail, _MEND[name])


def _folders(settings: Settings) -> Iterator[Finding]:
    for variable, roots in (
        ("SECATEUR_MODEL_ROOTS", settings.model_roots),
        ("SECATEUR_DATA_ROOTS", settings.data_roots),
    ):
        for root in roots:
            reason = unusable(root)
            detail = f"{root} {reason or 'can be read'}"
            mend = f"make it readable, or take it out of {variable}" if reason else ""
            yield Finding("folder", "wrong" if reason else "ok", detail, mend)


def _disk(folder: Path) -> Finding:
    """Of the data folder, or of the nearest folder above it that is there already."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not os.access(there, os.W_OK):
        return Finding("disk", "wrong", f"{there} cannot be written by this account", "set SECATEUR_DATA_DIR")
    free = shutil.disk_usage(there).free
    if free < LEAST_FREE_BYTES:
        mend = "make room, let old jobs go (SECATEUR_KEEP_DAYS), or set SECATEUR_DATA_DIR to a larger disk"
        return Finding("disk", "wrong", f"{size(free)} free for {folder}", mend)
    return Finding("disk", "ok", f"{size(free)} free for {folder}")


def _ask_torch() -> dict[str, Any] | None:
    """What torch tells of its devices; None where there is no torch, `error` where it does not work."""
    if not _of("torch"):
        return None
    try:
        asked = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _ASK_TORCH],
            capture_output=True,
            text=True,
            timeout=TORCH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"broken": f"torch has not told of its devices within {TORCH_SECONDS:.0f} s"}
    if asked.returncode != 0:
        last = (asked.stderr.strip().splitlines() or [f"status {asked.returncode}"])[-1]
        return {"broken": f"torch cannot be imported: {last}"}
    found: dict[str, Any] = json.loads(asked.stdout.strip().splitlines()[-1])
    return found


def gpu(torch: dict[str, Any] | None, *, device: str, driver: bool) -> Finding:
    """What torch's devices mean for a worker that is to compute on `device`; `driver`: NVIDIA's is loaded."""
    if torch is None:
        return Finding("GPU", "note", "there is no torch here: this machine can run the API, but no worker")
    if "broken" in torch:
        return Finding("GPU", "wrong", torch["broken"], "install torch anew; docs/install.md says how")
    if torch["devices"]:
        return Finding("GPU", "ok", f"{', '.join(torch['devices'])}; torch is built for CUDA {torch['cuda']}")
    if driver and torch["cuda"] is None:
        detail = "there is a GPU's driver, but this torch is built for CPUs alone"
        return Finding("GPU", "wrong", detail, "install torch for CUDA; docs/install.md says how")
    if driver:
        detail = f"torch, built for CUDA {torch['cuda']}, cannot use the GPU: {torch['error']}"
        return Finding(
            "GPU", "wrong", detail, "bring the driver up to that CUDA version, or install torch for an older one"
        )
    if device.startswith("cuda"):
        detail = f"SECATEUR_DEVICE is {device}, and no NVIDIA driver is loaded"
        return Finding("GPU", "wrong", detail, "install the driver, or set SECATEUR_DEVICE=auto")
    return Finding("GPU", "ok", "none; stages compute on the CPU")


def _hub() -> Finding:
    import httpx

    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in {"1", "ON", "YES", "TRUE"}:
        return Finding("hub", "note", "HF_HUB_OFFLINE is set: models of the hub come from the cache alone")
    url = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        httpx.head(url, timeout=HUB_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        mend = "open the way to it (HTTPS_PROXY, HF_ENDPOINT); local models need none"
        return Finding("hub", "note", f"{url} does not answer ({type(error).__name__})", mend)
    return Finding("hub", "ok", f"{url} answers")
