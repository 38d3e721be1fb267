"""Tables and a page of scored runs.

    python -m eval report [RUN ...] [--against kimi-audio] [--out DIR]

Writes ``report.md``, ``report.json``, ``report.csv``, ``model-index.yaml`` (one per run) and ``index.html``.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eval.pages.published_table import PublishedTable
    from eval.scores.scored_run import ScoredRun


def report(runs: list[Path], out: Path, published: "PublishedTable | None" = None, per_task: int = 6) -> str:
    """Write all files of a report on scored runs.

    Args:
        runs: run folders.
        out: folder of the files; made here.
        published: figures of others to show beside.
        per_task: samples of each task on the page.

    Returns:
        The tables in Markdown.

    Raises:
        FileNotFoundError: a folder is no run, or has no scores.
    """
    from dataclasses import asdict

    from eval.pages.page import page
    from eval.run.finished_run import FinishedRun
    from eval.scores.model_index import model_index_yaml
    from eval.scores.scored_run import ScoredRun
    from eval.scores.table import comma_separated, markdown

    scores = {name: ScoredRun.read(run) for name, run in _named(runs).items()}
    finished = {name: FinishedRun.load(run) for name, run in _named(runs).items()}
    text = markdown(scores) + (f"\n{published.markdown(scores)}" if published else "")
    out.mkdir(parents=True, exist_ok=True)
    content = {name: asdict(one) for name, one in scores.items()}
    files = {
        "report.md": text,
        "report.json": json.dumps(content, indent=1, allow_nan=False) + "\n",
        "report.csv": comma_separated(scores),
        "index.html": page({name: (finished[name], scores[name]) for name in scores}, published, per_task),
    }
    for name, one in scores.items():
        file = "model-index.yaml" if len(scores) == 1 else f"model-index-{name}.yaml"
        files[file] = model_index_yaml(_model(one, name), one)
    for name, content_ in files.items():
        (out / name).write_text(content_, encoding="utf-8")
    return text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument(
        "runs", nargs="*", type=Path, metavar="RUN", help="run folders; none: the newest of every model under runs/"
    )
    parser.add_argument("--against", metavar="NAME", help="published figures to print beside ours: kimi-audio")
    parser.add_argument("--out", type=Path, help="folder of the report (default: report/ in the last run folder)")
    parser.add_argument("--samples", type=int, default=6, help="samples of each task on the page (default: 6)")
    parser.add_argument("--judge", default="rules", help="judge of free answers, where a run is not yet scored")


def main(args: argparse.Namespace) -> None:
    """Write the report and print its tables; runs without scores are scored first."""
    from eval.pages.published_table import PublishedTable
    from eval.run.finished_run import newest_of_every_model
    from eval.scores.command import scored

    published = PublishedTable.load(args.against) if args.against else None
    runs = args.runs or newest_of_every_model(Path("runs"))
    for run in runs:
        scored(run, args.judge)
    out = args.out or runs[-1] / "report"
    sys.stdout.write(report(runs, out, published, args.samples))
    sys.stdout.write(f"\nthe page: {out / 'index.html'}\n")


def _named(runs: list[Path]) -> dict[str, Path]:
    """Runs by the shortest end of their paths that tells them apart."""
    absolute = list(dict.fromkeys(run.resolve() for run in runs))
    for length in range(1, max(len(run.parts) for run in absolute) + 1):
        names = ["-".join(run.parts[-length:]).strip("/-") for run in absolute]
        if len(set(names)) == len(names):
            return dict(zip(names, absolute, strict=True))
    raise AssertionError("different paths differ somewhere")


def _model(scores: "ScoredRun", name: str) -> str:
    model = scores.record.get("model")
    return Path(model).name if isinstance(model, str) and model else name
