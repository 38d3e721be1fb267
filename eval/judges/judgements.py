"""What judges said, kept beside the run: no clip is heard twice and no answer judged twice.

    {"judge": "pocketsphinx/5.1.1", "key": digest of what was judged, "reply": "..."}  per line, append-only

A reply is found again by judge (name, version and prompt in one word) and content, so that scores can be computed
again where neither the judge nor the model is at hand.
"""

import hashlib
import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path


class Judgements:
    """The file ``judgements.jsonl`` of one run.

    Args:
        path: path of the file; made with the first reply. A broken last line (a killed process) is cut off.

    Raises:
        ValueError: a line other than the last is no judgement.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._replies: dict[tuple[str, str], str] = {}
        whole = path.read_bytes() if path.is_file() else b""
        complete = whole[: whole.rfind(b"\n") + 1]
        if len(complete) < len(whole):
            path.write_bytes(complete)
        for number, line in enumerate(complete.decode("utf-8").split("\n")[:-1], 1):
            try:
                row = json.loads(line)
                self._replies[row["judge"], row["key"]] = row["reply"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}, line {number} is no judgement: {line[:60]!r}") from error

    def obtain(self, judge: str, key: str, ask: Callable[[], str]) -> str:
        """The recorded reply, else what `ask` returns, which is then recorded; what `ask` raises is not."""
        if (judge, key) not in self._replies:
            reply = ask()
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"judge": judge, "key": key, "reply": reply}, ensure_ascii=False) + "\n")
            self._replies[judge, key] = reply
        return self._replies[judge, key]

    def recall(self, judge: str, key: str) -> str | None:
        """The recorded reply; None: there is none."""
        return self._replies.get((judge, key))

    def judge_of(self, package: str, setting: str = "") -> str:
        """Name/version of a judge that is a package: the installed version, else the one that was last recorded.

        Args:
            package: its name.
            setting: in which it judges; replies under another setting are another judge's.
        """
        name = f"{package}-{setting}" if setting else package
        try:
            return f"{name}/{metadata.version(package)}"
        except metadata.PackageNotFoundError:
            recorded = [judge for judge, _ in self._replies if judge.startswith(f"{name}/")]
            return recorded[-1] if recorded else name


def content_key(*parts: str | bytes) -> str:
    """Hex SHA-256 of parts in order; no two lists of parts share one by their concatenation."""
    total = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        total.update(len(raw).to_bytes(8, "big") + raw)
    return total.hexdigest()
