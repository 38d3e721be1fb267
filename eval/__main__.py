"""`python -m eval run|score|compare|report|ls`: see each with --help.

What is wrong with the input is one sentence on standard error and exit code 2.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

_VERBS = {  # verb -> module with `add_arguments` and `main`, help
    "run": ("eval.run.command", "ask a model everything, and store what it says"),
    "score": ("eval.scores.command", "figures of a run, without a model"),
    "compare": ("eval.scores.compare", "two runs, sample by sample"),
    "report": ("eval.pages.command", "tables and a page from scored runs"),
    "ls": ("eval.tasks.ls", "tasks and suites, and whether their data are there"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse and do it."""
    try:
        args = _parsed(sys.argv[1:] if arguments is None else list(arguments))
        args.main(args)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m eval", description="Evaluate audio models, reproducibly.")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for name, (path, help_text) in _VERBS.items():
        verb = verbs.add_parser(name, help=help_text, description=help_text)
        if arguments[:1] == [name]:  # a verb's module is imported only where it is used: --help is instant
            _include(arguments)
            module = importlib.import_module(path)
            module.add_arguments(verb)
            verb.add_argument("--include", action="append", metavar="FILE", help="Python file that adds jobs and tasks")
            verb.set_defaults(main=module.main)
    return parser.parse_args(arguments)


def _include(arguments: Sequence[str]) -> None:
    """Run the files that are to be included: their names may stand among the choices of other options."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--include", action="append", default=[], type=Path)
    paths = first.parse_known_args(arguments)[0].include
    if paths:
        from eval.tasks.included import include

        for path in paths:
            include(path)


if __name__ == "__main__":
    main()
