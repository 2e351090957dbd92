"""The prompts of the built-in checks of generation, drawn from a seed, each with the one answer that is right.

They are written here, so that no data set has to be fetched and none can have been trained on. Each prompt begins with
two solved examples, which show the form of an answer: a small model that would explain itself otherwise just answers.
Words have five letters, names and cities four, so that prompts of one kind mostly have equally many tokens and can be
continued together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from secateur.contract.options.benchmark import GenerationCheck
from workers.engine.model.generation import derive_seed
from workers.engine.text.chat_templates import Message
from workers.engine.text.prompts import Prompt

SHOTS = 2

# fmt: off  (a line for each word would be a page)
_WORDS = (
    "apple",
    "bread",
    "chair",
    "cloud",
    "dance",
    "earth",
    "field",
    "flame",
    "glass",
    "grass",
    "green",
    "happy",
    "heart",
    "horse",
    "house",
    "juice",
    "knife",
    "lemon",
    "light",
    "lunch",
    "metal",
    "money",
    "mouth",
    "music",
    "night",
    "ocean",
    "paper",
    "peach",
    "pearl",
    "piano",
    "plant",
    "queen",
    "quiet",
    "radio",
    "river",
    "sheep",
    "shirt",
    "smile",
    "snake",
    "stone",
    "storm",
    "sugar",
    "table",
    "tiger",
    "train",
    "voice",
    "water",
    "wheel",
    "white",
    "young",
)
_NAMES = (
    "Adam",
    "Anna",
    "Carl",
    "Emma",
    "Erik",
    "Ivan",
    "Jack",
    "Jane",
    "John",
    "Kate",
    "Lisa",
    "Luke",
    "Mark",
    "Mary",
    "Nina",
    "Paul",
    "Rosa",
    "Ruth",
    "Sara",
    "Tina",
)
_CITIES = (
    "Bern",
    "Bonn",
    "Cork",
    "Graz",
    "Kiev",
    "Lima",
    "Linz",
    "Lyon",
    "Nice",
    "Oslo",
    "Pisa",
    "Riga",
    "Rome",
    "York",
)
# fmt: on


@dataclass(frozen=True)
class Question:
    """What is asked, and the answer, on one line."""

    asked: str
    answer: str


@dataclass(frozen=True)
class Item:
    """One prompt of a check: a question after solved ones."""

    examples: tuple[Question, ...]
    question: Question

    @property
    def answer(self) -> str:
        return self.question.answer

    def prompt(self) -> Prompt:
        """As plain text, and as a chat in which the examples were asked and answered."""
        solved = "".join(f"Question: {shot.asked}\nAnswer: {shot.answer}\n\n" for shot in self.examples)
        messages: list[Message] = []
        for shot in self.examples:
            messages += [{"role": "user", "content": shot.asked}, {"role": "assistant", "content": shot.answer}]
        messages.append({"role": "user", "content": self.question.asked})
        return Prompt(f"{solved}Question: {self.question.asked}\nAnswer:", tuple(messages))


def items_of(check: GenerationCheck, *, prompts: int, seed: int) -> list[Item]:
    """The prompts of one check. A longer list begins with the shorter one."""
    ask = ASKS[check]
    random = Random(derive_seed(seed, "generation", check))
    items = []
    for number in range(prompts):
        *examples, question = (ask(number, random) for _ in range(SHOTS + 1))
        items.append(Item(tuple(examples), question))
    return items


def _sum(number: int, random: Random) -> Question:
    """Sums and differences of numbers of one digit and of two by turns, so that small models get some right.

    An item's examples are of its own kind.
    """
    low, high = (2, 9) if number % 4 < 2 else (10, 49)
    first, second = random.randint(low, high), random.randint(low, high)
    if number % 2 == 0:
        return Question(f"What is {first} + {second}?", str(first + second))
    return Question(f"What is {first + second} - {second}?", str(first))


def _copy(number: int, random: Random) -> Question:
    """Words and a number in the order in which they stand."""
    words = [*random.sample(_WORDS, 4), str(random.randint(10, 99))]
    random.shuffle(words)
    line = " ".join(words)
    return Question(f"Repeat exactly: {line}", line)


def _json(random: Random) -> Question:
    name, city, age = random.choice(_NAMES), random.choice(_CITIES), random.randint(10, 99)
    written = json.dumps({"name": name, "age": age, "city": city})
    return Question(f"Write as JSON: {name} is {age} and lives in {city}.", written)


def _words(form: str, asked: str) -> Callable[[Random], Question]:
    """Three words in a form that has a place for each."""

    def ask(random: Random) -> Question:
        words = random.sample(_WORDS, 3)
        return Question(f"{asked}: {', '.join(words)}", form.format(*words))

    return ask


_FORMS: tuple[Callable[[Random], Question], ...] = (
    _json,
    _words("[{}] [{}] [{}]", "Put each word in square brackets"),
    _words("{} -> {} -> {}", "Join the words with arrows"),
    _words("1. {} 2. {} 3. {}", "Number the words"),
)


def _form(number: int, random: Random) -> Question:
    """The same kinds of form by turns; an item's examples are of its own kind."""
    return _FORMS[number % len(_FORMS)](random)


ASKS: Mapping[GenerationCheck, Callable[[int, Random], Question]] = {
    "arithmetic": _sum,
    "copying": _copy,
    "format": _form,
}
