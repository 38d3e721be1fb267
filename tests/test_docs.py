"""README and docs: their snippets run as printed, their links lead somewhere, their English is plain.

A snippet runs when it is a ```python block, or a ```bash block after a line ``<!-- run -->``; a ```python block after
``<!-- skip: reason -->`` does not. A ```text block right behind a snippet is what the snippet prints. The snippets of a
page run in order in one folder, so that a later one may read what an earlier one wrote.
"""

import os
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.words import LONGEST, MEDIAN, fragments, texts

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


class Snippet(NamedTuple):
    """A fenced block, with the comment before it and the text block behind it."""

    line: int
    language: str
    comment: str
    code: str
    output: str | None

    @property
    def runs(self) -> bool:
        """Whether the page promises that it works as printed."""
        if self.language == "python":
            return not self.comment.startswith("skip")
        return self.language == "bash" and self.comment == "run"


def snippets(text: str) -> list[Snippet]:
    """Fenced blocks of a markdown text."""
    block = re.compile(
        r"(?:^<!-- *(?P<comment>[^\n]*?) *-->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$"
        r"(?:\n\n```text\n(?P<output>.*?)^```$)?",
        re.M | re.S,
    )
    return [
        Snippet(
            text.count("\n", 0, found.start()) + 1,
            found["language"],
            found["comment"] or "",
            found["code"],
            found["output"],
        )
        for found in block.finditer(text)
    ]


def test_snippets_are_found() -> None:
    text = "a\n<!-- run -->\n```bash\nls\n```\n\n```bash\nrm\n```\n"
    text += "<!-- skip: slow -->\n```python\n1\n```\n```python\n2\n```\n\n```text\n3\n```\n"
    assert [(s.language, s.code, s.runs, s.output) for s in snippets(text)] == [
        ("bash", "ls\n", True, None),
        ("bash", "rm\n", False, None),
        ("python", "1\n", False, None),
        ("python", "2\n", True, "3\n"),
    ]


def test_readme_opens_with_its_two_commands() -> None:
    first = snippets((ROOT / "README.md").read_text())[0]
    commands = [line.partition("#")[0].strip() for line in first.code.splitlines() if line.partition("#")[0].strip()]
    assert commands == ["pip install uv && uv run spikeaudio demo", "uv run --group dev pytest -n 2"]


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_snippets_run(page: Path, checkpoint: Path, tmp_path: Path) -> None:
    for name in ("checkpoints", "spikeaudio", "recipes", "eval", "tests"):
        (tmp_path / name).symlink_to(ROOT / name, target_is_directory=True)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }
    for snippet in snippets(page.read_text()):
        if not snippet.runs:
            continue
        command = [sys.executable, "-W", "ignore", "-c"] if snippet.language == "python" else ["bash", "-euc"]
        done = subprocess.run(
            [*command, snippet.code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
        )
        where = f"{page.name} line {snippet.line}:\n{snippet.code}\n{done.stdout}{done.stderr}"
        assert done.returncode == 0, where
        assert snippet.output is None or done.stdout == snippet.output, where


def test_english_is_plain() -> None:
    """`python -m tests.words --long` shows the sentences."""
    for name, found in texts().items():
        counts = [each.words for each in found]
        assert statistics.median(counts) <= MEDIAN, name
        assert max(counts) <= LONGEST, f"{name}: {max(found, key=lambda each: each.words)}"
    assert [each.where for each in fragments()] == []
