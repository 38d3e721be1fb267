"""`python -m eval run|score|compare|report|ls`: see each with --help.

What is wrong with the input is one sentence on standard error and exit code 2.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

_VERBS = {  # verb -> module with `add_arguments` and `main`, help
    "run": ("eval.run.command", "ask a model everything, and store what it says"),
    "score": ("eval.scores.command", "figures of a run, without a model"),
    "compare": ("eval.scores.compare", "two runs, sample by sample"),
    "report": ("eval.pages.command", "tables and a page from scored runs"),
    "ls": ("eval.tasks.ls", "tasks and suites, and whether their data are there"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse and do it."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser("python -m eval", description="Evaluate audio models, reproducibly.")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for name, (path, help_text) in _VERBS.items():
        verb = verbs.add_parser(name, help=help_text, description=help_text)
        if arguments[:1] == [name]:  # a verb's module is imported only where it is used: --help is instant
            module = importlib.import_module(path)
            module.add_arguments(verb)
            verb.set_defaults(main=module.main)
    args = parser.parse_args(arguments)
    try:
        args.main(args)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
