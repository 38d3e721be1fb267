"""Lint, format, types and the tested set of versions: `uv run pytest` runs every gate."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# What the project promises to be built with; each may serve eval/ and the recipes instead of the package.
PROMISED = {"accelerate", "datasets", "librosa", "torch", "torchaudio", "transformers", "vocos"}


def run(*arguments: str) -> str:
    """Output of a tool of this environment; fails with it."""
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_ruff_lint() -> None:
    run("ruff", "check", ".")


def test_ruff_format() -> None:
    run("ruff", "format", "--check", ".")


@pytest.mark.slow
def test_mypy() -> None:
    run("mypy")


def test_pip_and_uv_read_the_same_pins() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    uv = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["constraint-dependencies"]
    assert pins == uv
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", pin) for pin in pins), "names and versions only"


def test_what_is_required_is_what_the_package_imports() -> None:
    """A package that nothing imports would be installed for nothing; one that is not required would be missing."""
    imported = set()
    for file in (ROOT / "spikeaudio").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                imported.add(node.module.partition(".")[0])
    imported -= {*sys.stdlib_module_names, "spikeaudio"}
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[^A-Za-z0-9-]", requirement)[0] for requirement in wanted}
    required = {{"pyyaml": "yaml"}.get(name, name.replace("-", "_")) for name in names}
    assert imported <= required, imported - required
    assert required - imported <= PROMISED, required - imported - PROMISED
