"""Where each variant of a report lies among the job's files."""

from __future__ import annotations

import pytest

from secateur.client.errors import NotPublishable
from secateur.client.publishing.places import chosen, places
from secateur.contract.between import BetweenSizes, ModelBetween
from tests.fixtures.finished_jobs import GGUF, a_report, its_files


def test_every_variant_has_its_place() -> None:
    report = a_report()
    found = {name: place.path for name, place in places(report).items()}
    assert found == {
        "pruned": "prune/checkpoint/",
        "recovered": "recover/checkpoint/",
        "recovered-gguf": "recover/model.gguf",
        "recovered-int8": "quantise/int8/checkpoint/",
        "recovered-gguf-q8_0": GGUF,
    }
    files = its_files(report)
    assert all(any(place.holds(path) for path in files) for place in places(report).values())


def test_without_recovery_the_pruned_model_is_the_one() -> None:
    report = a_report(recovered=None)
    assert [place.variant for place in chosen(report, ())] == ["pruned"]
    assert "pruned-int8" in places(report)


def test_of_two_rounds_the_one_that_is_handed_out() -> None:
    report = a_report().model_copy(update={"round": 2})
    assert chosen(report, ())[0].path == "recover-2/checkpoint/"
    assert places(report)["recovered-int8"].path == "quantise-2/int8/checkpoint/"


def test_models_between() -> None:
    between = ModelBetween(name="28-blocks", blocks=28, put_back=[4], originals=(0, 9), parameters=9, bytes=9)
    report = a_report().model_copy(update={"between": BetweenSizes(models=[between], end="last", seconds=1.0)})
    assert places(report)["recovered-28-blocks"].path == "sizes/28-blocks/checkpoint/"


def test_files_go_beside_a_checkpoint_and_two_checkpoints_do_not() -> None:
    report = a_report()
    both = chosen(report, ["recovered", "recovered-gguf-q8_0", "recovered"])
    assert [place.variant for place in both] == ["recovered", "recovered-gguf-q8_0"]
    with pytest.raises(NotPublishable, match="recovered and recovered-int8 are checkpoints"):
        chosen(report, ["recovered", "recovered-int8"])
    with pytest.raises(NotPublishable, match=r"no variant 'original'; it has pruned, recovered, "):
        chosen(report, ["original"])
