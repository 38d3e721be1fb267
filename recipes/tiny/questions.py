"""The closed domain of spikeaudio-tiny: small facts, asked in several wordings, answered in one sentence.

A *fact* is (domain, answer, questions): every wording of a fact has the same answer. All text is lower case,
letters and spaces only, numbers spelled out, because that is the language the model is trained on.
"""

from dataclasses import dataclass

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
MONTHS = "january february march april may june july august september october november december".split()
CAPITALS = {
    "france": "paris",
    "england": "london",
    "germany": "berlin",
    "italy": "rome",
    "spain": "madrid",
    "russia": "moscow",
    "japan": "tokyo",
    "china": "beijing",
    "egypt": "cairo",
    "greece": "athens",
    "austria": "vienna",
    "poland": "warsaw",
    "norway": "oslo",
    "sweden": "stockholm",
    "ireland": "dublin",
    "portugal": "lisbon",
    "canada": "ottawa",
    "cuba": "havana",
    "peru": "lima",
    "kenya": "nairobi",
    "hungary": "budapest",
    "finland": "helsinki",
    "scotland": "edinburgh",
    "denmark": "copenhagen",
    "belgium": "brussels",
    "turkey": "ankara",
    "india": "delhi",
    "iran": "tehran",
    "iraq": "baghdad",
    "korea": "seoul",
}
SOUNDS = {
    "dog": "barks",
    "cat": "meows",
    "cow": "moos",
    "lion": "roars",
    "duck": "quacks",
    "sheep": "bleats",
    "horse": "neighs",
    "pig": "grunts",
    "wolf": "howls",
    "snake": "hisses",
    "bee": "buzzes",
    "owl": "hoots",
    "frog": "croaks",
    "mouse": "squeaks",
}
OPPOSITES = [
    ("hot", "cold"),
    ("big", "small"),
    ("fast", "slow"),
    ("up", "down"),
    ("left", "right"),
    ("day", "night"),
    ("black", "white"),
    ("open", "closed"),
    ("young", "old"),
    ("happy", "sad"),
    ("wet", "dry"),
    ("early", "late"),
    ("rich", "poor"),
    ("strong", "weak"),
    ("hard", "soft"),
    ("full", "empty"),
    ("high", "low"),
    ("long", "short"),
]
COLOURS = {
    "grass": "green",
    "snow": "white",
    "the sky": "blue",
    "blood": "red",
    "coal": "black",
    "a lemon": "yellow",
    "a carrot": "orange",
    "chocolate": "brown",
    "a cloud": "grey",
    "milk": "white",
    "a leaf": "green",
    "the sea": "blue",
    "a banana": "yellow",
    "a tomato": "red",
}
LEGS = {
    "a dog": 4,
    "a cat": 4,
    "a spider": 8,
    "an ant": 6,
    "a bird": 2,
    "a man": 2,
    "a horse": 4,
    "a fish": 0,
    "a snake": 0,
    "a bee": 6,
    "a chair": 4,
    "a cow": 4,
}
GREETINGS = [
    ("hello", "hello how are you"),
    ("good morning", "good morning to you"),
    ("good evening", "good evening to you"),
    ("how are you", "i am fine thank you"),
    ("thank you", "you are welcome"),
    ("goodbye", "goodbye and take care"),
    ("what is your name", "my name is spike"),
    ("who are you", "i am a small talking machine"),
    ("good night", "good night sleep well"),
    ("can you hear me", "yes i can hear you"),
    ("what can you do", "i can listen and speak"),
    ("are you a human", "no i am a machine"),
]


@dataclass(frozen=True)
class Fact:
    """One fact of the closed domain."""

    domain: str
    answer: str
    questions: tuple[str, ...]


def number(n: int) -> str:
    """Spell 0 <= n <= 199 in words, e.g. 121 -> "one hundred twenty one"."""
    if not 0 <= n < 200:
        raise ValueError(f"number() spells 0..199, got {n}")
    if n >= 100:
        rest = n - 100
        return "one hundred" + (f" {number(rest)}" if rest else "")
    if n < 20:
        return ONES[n]
    return TENS[n // 10 - 2] + (f" {ONES[n % 10]}" if n % 10 else "")


def facts() -> list[Fact]:
    """Every fact of the closed domain, in a fixed order."""
    out: list[Fact] = []

    def add(domain: str, answer: str, *questions: str) -> None:
        out.append(Fact(domain, answer, questions))

    for a in range(0, 13):
        for b in range(0, 13):
            x, y, z = number(a), number(b), number(a + b)
            add("add", f"{x} plus {y} is {z}", f"what is {x} plus {y}", f"how much is {x} plus {y}")
            if a >= b:
                add("sub", f"{x} minus {y} is {number(a - b)}", f"what is {x} minus {y}", f"how much is {x} minus {y}")
            if a <= 10 and b <= 10:
                add("mul", f"{x} times {y} is {number(a * b)}", f"what is {x} times {y}", f"how much is {x} times {y}")
    for i, day in enumerate(DAYS):
        add("day", f"{DAYS[(i + 1) % 7]} comes after {day}", f"which day comes after {day}", f"what day follows {day}")
        add("day", f"{DAYS[i - 1]} comes before {day}", f"which day comes before {day}", f"what day is before {day}")
    for i, month in enumerate(MONTHS):
        add(
            "month",
            f"{MONTHS[(i + 1) % 12]} comes after {month}",
            f"which month comes after {month}",
            f"what month follows {month}",
        )
        add(
            "month",
            f"{MONTHS[i - 1]} comes before {month}",
            f"which month comes before {month}",
            f"what month is before {month}",
        )
    for country, city in CAPITALS.items():
        add(
            "capital",
            f"the capital of {country} is {city}",
            f"what is the capital of {country}",
            f"tell me the capital of {country}",
        )
    for animal, verb in SOUNDS.items():
        add("animal", f"the {animal} {verb}", f"what does a {animal} do", f"which sound does a {animal} make")
    for a_word, b_word in OPPOSITES:
        for x, y in ((a_word, b_word), (b_word, a_word)):
            add(
                "opposite",
                f"the opposite of {x} is {y}",
                f"what is the opposite of {x}",
                f"tell me the opposite of {x}",
            )
    for thing, colour in COLOURS.items():
        add("colour", f"{thing} is {colour}", f"what colour is {thing}", f"tell me the colour of {thing}")
    for thing, count in LEGS.items():
        legs = "no legs" if count == 0 else f"{number(count)} legs"
        add("legs", f"{thing} has {legs}", f"how many legs does {thing} have", f"how many legs has {thing}")
    for n in range(0, 60):
        add(
            "next",
            f"{number(n + 1)} comes after {number(n)}",
            f"which number comes after {number(n)}",
            f"what comes after {number(n)}",
        )
    for a in range(1, 21):
        for step in (1, 3, 7):
            b = a + step if (a + step) <= 20 else a - step
            if b >= 0:
                add(
                    "compare",
                    f"{number(max(a, b))} is bigger than {number(min(a, b))}",
                    f"which is bigger {number(a)} or {number(b)}",
                    f"what is more {number(a)} or {number(b)}",
                )
    for question, answer in GREETINGS:
        add("greeting", answer, question)
    return out
