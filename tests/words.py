"""How plain our English is: words per sentence of every text that people read.

    python -m tests.words [--long]      a table; --long also prints each sentence over 40 words and each fragment

Counted are README and docs, the docstrings of the package, and the help texts of every command. Code, tables,
headings, equations and examples are not prose. A sentence ends at ``.``, ``!``, ``?``, at the end of a paragraph or of
an item. A fragment is the description of an argument that begins with "of" or "what" instead of naming the thing.
"""

import ast
import re
import statistics
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEDIAN, LONGEST = 16, 40  # words
_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(`*\[]*[A-Z0-9`]|[\"'][a-z])")
_ITEM = re.compile(r"^\s*(?:[-*+]|\d+\.)\s+")
_FIELD = re.compile(r"^(\s+)(?:\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*)(?: \([^)]*\))?: +(?=\S)")
_SECTION = re.compile(r"^\s*(?:Args|Returns|Raises|Yields|Attributes|Shape|Example|Examples|Notation|Source|Note):\s*$")


@dataclass(frozen=True)
class Sentence:
    """One sentence and where it stands."""

    where: str
    text: str

    @property
    def words(self) -> int:
        """Words in it; a name of code is one word."""
        return len(re.findall(r"[A-Za-z0-9][^\s]*", self.text))


def sentences(paragraphs: Iterable[str], where: str) -> Iterator[Sentence]:
    """Sentences of paragraphs that hold nothing but prose."""
    for paragraph in paragraphs:
        text = " ".join(paragraph.split())
        text = re.sub(r"``?[^`]*``?", "Code", text)  # capital, for it may begin a sentence
        text = re.sub(r"\]\([^)]*\)", "]", text)
        for piece in _END.split(text):
            if re.search(r"[A-Za-z]", piece):
                yield Sentence(where, piece)


def markdown(text: str) -> Iterator[str]:
    """Paragraphs and items of a markdown text, without code, tables and headings."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r"\A---\n.*?^---$", "", text, flags=re.S | re.M)  # the header of a model card
    lines: list[str] = []
    for line in [*text.splitlines(), ""]:
        if _ITEM.match(line) and lines:
            yield " ".join(lines)
            lines = []
        if not line.strip() or re.match(r"\s*(\||#|!\[|<)", line):
            if lines:
                yield " ".join(lines)
            lines = []
        else:
            lines.append(_ITEM.sub("", line))


def docstring(text: str) -> Iterator[str]:
    """Paragraphs of a docstring: no examples, equations or tables."""
    lines: list[str] = []
    field = None  # indentation of the field that is being described
    code = False
    for line in [*text.splitlines(), ""]:
        indent = len(line) - len(line.lstrip())
        found = _FIELD.match(line)
        example = line.lstrip().startswith((">>>", "..."))
        code = example or (code and bool(line.strip()))
        ends = not line.strip() or code or _SECTION.match(line) or found or _ITEM.match(line) or line.lstrip()[0] == "|"
        if ends and lines:
            yield " ".join(lines)
            lines = []
        if not line.strip():
            field = None if field is None else field
            continue
        if code or _SECTION.match(line) or line.lstrip()[0] == "|":
            continue
        if found:
            field = indent
            lines.append(line[found.end() :])
        elif _ITEM.match(line):
            lines.append(_ITEM.sub("", line))
        elif indent == 0 or (field is not None and indent > field) or (field is None and lines):
            lines.append(line)
        elif indent == 4 and field is None and not _equation(line):
            lines.append(line)


def _equation(line: str) -> bool:
    return bool(re.search(r"[=<>|]|->|\{|  ", line.strip()))


def fields(text: str) -> Iterator[str]:
    """Descriptions of the arguments in a docstring."""
    for line in text.splitlines():
        if found := _FIELD.match(line):
            yield line[found.end() :]


def docstrings(folder: Path) -> Iterator[tuple[str, str]]:
    """Where each docstring under a folder stands, and its text."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text:
                    name = getattr(node, "name", "module")
                    yield f"{path.relative_to(ROOT)}:{name}", text


def helps() -> Iterator[tuple[str, str]]:
    """Help texts of the command line, those of its options included."""
    import typer

    from spikeaudio.cli.app import app

    def walk(command: object, name: str) -> Iterator[tuple[str, str]]:
        yield name, getattr(command, "help", None) or ""
        for parameter in getattr(command, "params", ()):
            yield f"{name} {parameter.name}", getattr(parameter, "help", None) or ""
        for child, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, f"{name} {child}")

    yield from walk(typer.main.get_command(app), "spikeaudio")


def options(folder: Path) -> Iterator[tuple[str, str]]:
    """Help texts of argparse's options in the scripts under a folder."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", None) == "add_argument":
                for keyword in node.keywords:
                    if keyword.arg == "help" and isinstance(keyword.value, ast.Constant):
                        yield f"{path.relative_to(ROOT)}:{node.lineno}", str(keyword.value.value)


def texts() -> dict[str, list[Sentence]]:
    """Every sentence, by kind of text."""
    found: dict[str, list[Sentence]] = {}
    for path in [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("*/**/README.md"))]:
        name = str(path.relative_to(ROOT))
        if name.startswith((".", "tests")) or path.resolve() in {other.resolve() for other in ROOT.glob("tests/**")}:
            continue
        found[name] = list(sentences(markdown(path.read_text()), name))
    for house in ("spikeaudio", "eval", "recipes"):
        found[f"docstrings of {house}/"] = [
            each for where, text in docstrings(ROOT / house) for each in sentences(docstring(text), where)
        ]
    found["help of the command line"] = [each for where, text in helps() for each in sentences([text], where)]
    found["help of the scripts"] = [
        each
        for house in ("eval", "recipes")
        for where, text in options(ROOT / house)
        for each in sentences([text], where)
    ]
    return found


def fragments() -> list[Sentence]:
    """Descriptions of arguments that begin with "of" or "what", in docstrings and help texts."""
    described = [
        Sentence(where, text)
        for house in ("spikeaudio", "eval", "recipes")
        for where, doc in docstrings(ROOT / house)
        for text in fields(doc)
    ]
    described += [Sentence(where, text) for where, text in helps()]
    described += [Sentence(where, text) for house in ("eval", "recipes") for where, text in options(ROOT / house)]
    return [each for each in described if re.match(r"(?i)(of|what)\b", each.text)]


def main() -> None:
    """Print the table."""
    show = "--long" in sys.argv
    print(f"{'text':44}{'sentences':>10}{'median':>8}{'longest':>9}{'over ' + str(LONGEST):>9}")
    for name, found in texts().items():
        counts = [each.words for each in found] or [0]
        long = [each for each in found if each.words > LONGEST]
        print(f"{name:44}{len(found):10}{statistics.median(counts):8.0f}{max(counts):9}{len(long):9}")
        for each in long if show else []:
            print(f"    {each.where}: {each.text}")
    found_fragments = fragments()
    print(f"descriptions that begin with of or what: {len(found_fragments)}")
    for each in found_fragments if show else []:
        print(f"    {each.where}: {each.text}")


if __name__ == "__main__":
    main()
