"""`ls`: tasks and suites, and whether their data are there."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `ls`."""
    parser.add_argument("--data", type=Path, help="folder with a folder of data per task")


def main(args: argparse.Namespace) -> None:
    """Print one line per task, then one per suite."""
    from eval.tasks import SUITES, TASKS, find_tasks, source_of

    for task in find_tasks(tuple(TASKS), args.data):
        source = source_of(task)
        state = "present" if source.present else "missing"
        metrics = ", ".join(task.metrics)
        print(f"{task.name:32} {task.job:13} {state:8} {metrics:32} {'' if source.present else source.get}".rstrip())
    print()
    for name, members in SUITES.items():
        print(f"suite {name}: {', '.join(members)}")
