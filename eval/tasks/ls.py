"""`ls`: tasks and suites, and whether their data are there."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `ls`."""
    parser.add_argument("--data", type=Path, help="folder with a folder of data per task")


def main(args: argparse.Namespace) -> None:
    """Print one line per task, then one per suite."""
    from eval.tasks import SUITES, TASKS, find_tasks
    from eval.tasks.source import ManifestSource, Source

    for task in find_tasks(tuple(TASKS), args.data):
        source, metrics = task.samples, ", ".join(task.figures)
        missing = source.get if isinstance(source, Source | ManifestSource) and not source.present else ""
        print(f"{task.name:32} {task.job!s:13} {'missing' if missing else 'present':8} {metrics:32} {missing}".rstrip())
    print()
    for name, members in SUITES.items():
        print(f"suite {name}: {', '.join(members)}")
