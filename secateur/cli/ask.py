"""`secateur ask`: a prompt to the models of a finished job, whose answers are shown as they are written."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.cli.job_ids import JobId, find
from secateur.cli.render import stands_in_words
from secateur.cli.session import connect, err, out
from secateur.cli.watch import end_unless_succeeded
from secateur.contract.numbers import count

if TYPE_CHECKING:
    from secateur.schemas.events import Event


def ask(
    job_id: JobId,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What is asked; - reads it from the standard input.")],
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Of each answer, at most.")] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0.0, help="0 takes the likeliest token; above, tokens are drawn.")
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            help="Who answers: original, pruned, recovered, or a quantised model such as recovered-int8; may be given "
            "again. The first three, if absent."
        ),
    ] = None,
    chat: Annotated[bool, typer.Option(help="Through the model's chat template, where it has one.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="The answers as JSON, when all are there.")] = False,
) -> None:
    """Ask the original, the pruned and the recovered model of a job the same, and read what each answers.

    A worker answers, one model after the other, as soon as one is free. Ends with 0 where all have answered.
    """
    text = sys.stdin.read() if prompt == "-" else prompt
    given = {"max_tokens": max_tokens, "temperature": temperature, "variants": variant or None}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    with connect() as client:
        asked = client.answers.create(find(client, job_id), text, chat=chat, **options)
        queue = client.jobs.retrieve(asked.id).queue
        if queue is not None and not as_json:
            err.print(f"[dim]{stands_in_words(queue)}[/]", highlight=False)
        view = _View()
        for event in client.jobs.events(asked.id):
            if not as_json:
                view.take(event)
        job = client.jobs.retrieve(asked.id)
        if as_json:
            print(client.answers.retrieve(asked.asked_of, asked.id).model_dump_json())
        end_unless_succeeded(job)


class _View:
    """Answers as they come: a heading for each model, its words, and how fast they came."""

    def __init__(self) -> None:
        self._variant = ""
        self._attempt: int | None = None

    def take(self, event: Event) -> None:
        if event.type == "text":
            self._text(event)
        elif event.type == "metrics":
            speed = event.data.get("tokens_per_second")
            told = f", {speed:.1f} a second" if speed is not None else ""
            ended = {"length": "; cut at its most tokens", "time": "; its time was up"}.get(event.data["ended"], "")
            tokens = event.data["tokens"]
            out.print(f"\n[dim]{count(tokens)} token{'' if tokens == 1 else 's'}{told}{ended}[/]", highlight=False)
        elif event.type == "log" and event.level in ("warning", "error"):
            err.print(str(event.data["message"]), markup=False, highlight=False)

    def _text(self, event: Event) -> None:
        if self._attempt not in (None, event.attempt):
            out.print("\n[dim]the worker was lost; another one begins again[/]")
            self._variant = ""
        self._attempt = event.attempt
        if event.data["variant"] != self._variant:
            out.print("\n" * bool(self._variant) + f"[bold]{event.data['variant']}[/]")
            self._variant = event.data["variant"]
        out.out(event.data["text"], end="", highlight=False)
