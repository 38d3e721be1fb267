"""Examples in docstrings run as printed; what users call has one; the API page names all of it."""

import doctest
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import spikeaudio
from spikeaudio import SpikeAudio

ROOT = Path(__file__).resolve().parent.parent
API = ROOT / "docs" / "api.md"


def modules_with_examples() -> Iterator[str]:
    """Modules of the package whose docstrings hold examples."""
    for path in sorted((ROOT / "spikeaudio").rglob("*.py")):
        if ">>> " in path.read_text():
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.slow
@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_run(name: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("checkpoints", "spikeaudio", "eval"):
        (tmp_path / folder).symlink_to(ROOT / folder, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, tried = doctest.testmod(module, optionflags=flags)
    assert tried and not failed


def called_by_users() -> Iterator[tuple[str, str]]:
    """Name and docstring of each public class, and of each verb of the facade."""
    for name in spikeaudio.__all__:
        if inspect.isclass(public := getattr(spikeaudio, name)):
            yield name, inspect.getdoc(public) or ""
    for name, member in inspect.getmembers(SpikeAudio):
        if not name.startswith("_") and not isinstance(member, property):
            yield f"SpikeAudio.{name}", inspect.getdoc(member) or ""


def test_what_users_call_has_an_example() -> None:
    assert [name for name, text in called_by_users() if ">>> " not in text] == []


def test_the_api_page_names_all_of_it() -> None:
    page = API.read_text()
    missing = [name for name, _ in called_by_users() if f"`{name.removeprefix('SpikeAudio.')}" not in page]
    assert missing == []
