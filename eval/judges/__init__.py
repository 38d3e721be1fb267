"""Judges of free answers, and how one is named on the command line."""

from eval.judges.judge import Judge

FORMS = "rules | local:CHECKPOINT | api:URL#MODEL | recorded:NAME/VERSION"


def named(name: str) -> Judge:
    """The judge of that name.

    Args:
        name: one of `FORMS`.

    Raises:
        ValueError: another form.
    """
    from eval.judges.api import ApiJudge
    from eval.judges.local import LocalJudge
    from eval.judges.recorded import Recorded
    from eval.judges.rules import Rules

    kind, _, rest = name.partition(":")
    if name == "rules":
        return Rules()
    if kind == "local" and rest:
        return LocalJudge(rest)
    if kind == "api" and "#" in rest:
        url, _, model = rest.rpartition("#")
        return ApiJudge(url, model)
    if kind == "recorded" and "/" in rest:
        return Recorded(rest)
    raise ValueError(f"unknown judge {name!r}; expected {FORMS}")
