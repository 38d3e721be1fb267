"""How well a transcript agrees with what was to be said."""


def agreement(said: str, heard: str) -> float:
    """Share of characters that agree: one minus the character error rate, at least 0.

    Args:
        said: the text that was to be said.
        heard: its transcript. Case, punctuation and the number of spaces do not count.

    >>> agreement("Good morning!", "good morning")
    1.0
    >>> agreement("four", "five")
    0.25
    """
    from torchaudio.functional import edit_distance  # slow to import, and not every model listens to itself

    wanted, got = _letters(said), _letters(heard)
    if not wanted:
        return float(not got)
    return max(0.0, 1 - edit_distance(wanted, got) / len(wanted))


def _letters(text: str) -> str:
    plain = "".join(char if char.isalnum() or char == "'" else " " for char in text.casefold())
    return " ".join(plain.split())
