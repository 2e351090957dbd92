"""Publishing to Weights & Biases: `wandb:PROJECT`, or `wandb:ENTITY/PROJECT`.

A job is a run of that project: its spec as the config, its figures as the summary, the training's curve as the history,
and an artifact that refers to the checkpoint's files in the service, which are not uploaded. The run's id is the job's,
so publishing again writes the same run. Where it goes is W&B's own affair (`WANDB_BASE_URL`, `WANDB_API_KEY`, and
`WANDB_MODE=offline`, which writes to a folder that `wandb sync` uploads).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

import wandb
from pydantic import ValidationError
from wandb.errors import AuthenticationError, CommError, Error, UsageError

from secateur.client.errors import NotPublishable, TargetFailed
from secateur.client.publishing.reach import check_reach
from secateur.client.publishing.target import Finished, Options, Published
from secateur.client.publishing.tracked import curve, figures, parameters, slug, tags
from secateur.contract.shown import first_line
from secateur.masking import learn_environment, redact

_PLACE = re.compile(r"(?:([\w.-]+)/)?([\w.-]+)", re.ASCII)
_SECONDS = 60  # until the service has to answer when it is logged in to


def target(place: str, options: Options) -> WandbTarget:
    """Raises NotPublishable: the place is no project."""
    found = _PLACE.fullmatch(place)
    if found is None:
        raise NotPublishable(f"wandb:{redact(place)} names no project: write wandb:PROJECT, or wandb:ENTITY/PROJECT")
    learn_environment(os.environ)
    return WandbTarget(found[1], found[2])


class WandbTarget:
    """One project."""

    needs_files = False
    needs_report = False

    def __init__(self, entity: str | None, project: str) -> None:
        self._entity, self._project = entity, project

    def check(self) -> None:
        if os.environ.get("WANDB_MODE", "online") in ("online", "run", "shared"):
            with self._told():
                check_reach("W&B", wandb.setup().settings.base_url)
                wandb.login(verify=True, timeout=_SECONDS)

    def send(self, result: Finished) -> Published:
        report, job = result.report, result.job
        told = tags(report, service=result.service, variants=result.variants)
        with self._told():
            run = wandb.init(
                entity=self._entity,
                project=self._project,
                id=f"{job.id}-{slug('-'.join(result.variants))}"[:120],
                name=f"{PurePosixPath(report.model.id).name}, {', '.join(result.variants)}",
                config={**parameters(report), **told},
                resume="allow",
                settings=_settings(),
            )
            try:
                for step, values in curve(report):
                    run.log(values, step=step)
                run.summary.update(figures(report, result.variants[0]))
                run.log_artifact(_artifact(result, told))
            except BaseException:
                run.finish(exit_code=1)
                raise
            run.finish()
        url = run.settings.sync_dir if run.offline else run.url  # a folder for `wandb sync`
        name = "/".join(part for part in (self._entity, self._project) if part)
        return Published(f"wandb:{name}", redact(str(url)), run.id, changed=True)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What the library raises, as errors of the client."""
        try:
            yield
        except (AuthenticationError, UsageError) as error:
            raise TargetFailed(redact(f"W&B refuses: set WANDB_API_KEY ({first_line(error)})")) from None
        except CommError as error:
            raise TargetFailed(redact(f"W&B does not answer: {first_line(error)}")) from None
        except ValidationError as error:  # of its settings; without the value, which may be a key cut short
            first = error.errors(include_input=False, include_url=False)[0]
            name = "_".join(str(part) for part in first["loc"]).upper()
            raise TargetFailed(redact(f"W&B does not take WANDB_{name}: {first['msg']}")) from None
        except Error as error:
            raise TargetFailed(redact(f"W&B does not take it: {first_line(error)}")) from None


def _settings() -> Any:
    """Nothing of this machine goes along: no repository, no packages, no program, no use of its processor."""
    return wandb.Settings(
        silent=True,
        console="off",
        disable_code=True,
        disable_git=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )


def _artifact(result: Finished, told: dict[str, str]) -> Any:
    """References to the files in the service: with the same files it is the same version."""
    name = slug(f"{PurePosixPath(result.report.model.id).name}-{'-'.join(result.variants)}")[:120]
    made = wandb.Artifact(name, type="model", metadata={**told, "sha256": result.checksums()})
    for path in result.checksums():
        made.add_reference(redact(f"{result.service}/jobs/{result.job.id}/artifacts/{path}"), path, checksum=False)
    return made
