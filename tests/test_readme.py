"""README's snippets run as printed, in a copy of the repository's layout, on the shipped checkpoint.

A snippet runs when it is a ```python block, or a ```bash block after a line ``<!-- run -->``; a ```python block after
``<!-- skip: reason -->`` does not. Snippets run in order in one folder, so that a later one may read what an earlier
one wrote.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"


class Snippet(NamedTuple):
    """A fenced block, with the comment before it."""

    line: int
    language: str
    comment: str
    code: str

    @property
    def runs(self) -> bool:
        """Whether the README promises that it works as printed."""
        if self.language == "python":
            return not self.comment.startswith("skip")
        return self.language == "bash" and self.comment == "run"


def snippets(text: str) -> list[Snippet]:
    """Fenced blocks of a markdown text."""
    block = re.compile(r"(?:^<!-- *(?P<comment>[^\n]*?) *-->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.M | re.S)
    return [
        Snippet(text.count("\n", 0, found.start()) + 1, found["language"], found["comment"] or "", found["code"])
        for found in block.finditer(text)
    ]


def test_snippets_are_found() -> None:
    text = "a\n<!-- run -->\n```bash\nls\n```\n\n```bash\nrm\n```\n"
    text += "<!-- skip: slow -->\n```python\n1\n```\n```python\n2\n```\n"
    assert [(s.language, s.code, s.runs) for s in snippets(text)] == [
        ("bash", "ls\n", True),
        ("bash", "rm\n", False),
        ("python", "1\n", False),
        ("python", "2\n", True),
    ]


def test_readme_opens_with_its_two_commands() -> None:
    first = snippets(README.read_text())[0]
    commands = [line.partition("#")[0].strip() for line in first.code.splitlines() if line.partition("#")[0].strip()]
    assert commands == ["pip install uv && uv run spikeaudio demo", "uv run pytest"]


def test_readme_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", README.read_text())
    if not (ROOT / "checkpoints" / "spikeaudio-tiny" / "config.json").is_file():
        links = [link for link in links if not link.startswith("checkpoints/")]  # a clone without the weights
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.slow
def test_snippets_run(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("checkpoints", "spikeaudio", "recipes", "eval", "tests"):
        (tmp_path / name).symlink_to(ROOT / name, target_is_directory=True)
    bin_folder = Path(sys.executable).parent
    for snippet in snippets(README.read_text()):
        if not snippet.runs:
            continue
        command = [sys.executable, "-c"] if snippet.language == "python" else ["bash", "-euc"]
        done = subprocess.run(
            [*command, snippet.code],
            cwd=tmp_path,
            env={"PATH": f"{bin_folder}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"README.md line {snippet.line}:\n{snippet.code}\n{done.stdout}{done.stderr}"
