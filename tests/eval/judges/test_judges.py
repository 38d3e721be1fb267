"""Judges: what a reply is worth, what is recorded, and a server that misbehaves."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from eval.judges import named
from eval.judges.api import ApiJudge
from eval.judges.judge import Scale, identity, judge_answer, read_score
from eval.judges.judgements import Judgements, content_key
from eval.judges.recorded import Recorded
from eval.judges.rules import Rules
from eval.sample import Sample
from eval.scores.command import score
from tests.fixtures.checkpoint import text_tokenizer
from tests.fixtures.hand_made_run import HandMadeRun, answer
from tests.fixtures.tiny_qwen2 import tiny_qwen2


@pytest.mark.parametrize("reply,value", [("4", 4), (" 5.\n", 5), ("Score: 3", 3), ("**2**", 2), ("rating: 4/5", 4)])
def test_usable_replies(reply: str, value: int) -> None:
    judgement = read_score(reply, Scale(1, 5))
    assert (judgement.score, judgement.usable, judgement.reply) == (value, True, reply)


@pytest.mark.parametrize("reply", ["", "10", "0", "-3", "4.5", "between 3 and 4", "I cannot say", "yes", "55"])
def test_unusable_replies_are_the_lowest_score(reply: str) -> None:
    judgement = read_score(reply, Scale(1, 5))
    assert (judgement.score, judgement.usable) == (1, False)


class Server:
    """A chat server of one's own: replies in turn, and what it was sent."""

    def __init__(self, *replies: str | int) -> None:
        self.asked: list[dict[str, Any]] = []
        waiting, asked = list(replies), self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked.append({"path": self.path, "key": self.headers.get("Authorization")} | body)
                reply = waiting.pop(0) if len(waiting) > 1 else waiting[0]
                content = json.dumps({"choices": [{"message": {"content": reply}}]}).encode()
                self.send_response(reply if isinstance(reply, int) else 200)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Retry-After-Ms", "1")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: object) -> None:
                """Quiet."""

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def judge(self, **rest: Any) -> ApiJudge:
        return ApiJudge(f"http://127.0.0.1:{self.http.server_port}/v1", "grader", **rest)


@pytest.fixture
def serve() -> Iterator[Any]:
    servers: list[Server] = []

    def start(*replies: str | int) -> Server:
        servers.append(Server(*replies))
        return servers[-1]

    yield start
    for server in servers:
        server.http.shutdown()
        server.http.server_close()


def test_a_server_is_asked_once_at_temperature_0(serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    server = serve("4")
    judgements = Judgements(tmp_path / "judgements.jsonl")
    for _ in range(2):
        assert judge_answer(server.judge(), judgements, "who?", "me", "you {answer}").score == 4
    (asked,) = server.asked
    assert (asked["path"], asked["temperature"], asked["key"]) == ("/v1/chat/completions", 0, "Bearer secret")
    assert "<<<you {answer}>>>" in asked["messages"][0]["content"]
    assert "secret" not in (tmp_path / "judgements.jsonl").read_text()


def test_recorded_replies_need_no_server(serve, tmp_path: Path) -> None:
    judge = serve("3").judge()
    judge_answer(judge, Judgements(tmp_path / "j.jsonl"), "q", "r", "a")
    again = Judgements(tmp_path / "j.jsonl")
    assert identity(Recorded("api/grader")) == identity(judge)
    assert judge_answer(Recorded("api/grader"), again, "q", "r", "a").score == 3
    with pytest.raises(LookupError, match="api/grader has no recorded reply"):
        judge_answer(Recorded("api/grader"), again, "q", "r", "another")
    with pytest.raises(LookupError):  # another prompt is another judge
        judge_answer(Recorded("api/grader", prompt="{answer}?"), again, "q", "r", "a")


def test_a_server_that_stumbles_and_one_that_is_down(serve, tmp_path: Path) -> None:
    assert serve(503, "2").judge().reply("q", "r", "a") == "2"
    down = serve(500)
    with pytest.raises(ConnectionError, match="no completion in 3 attempts"):
        judge_answer(down.judge(), Judgements(tmp_path / "j.jsonl"), "q", "r", "a")
    assert not (tmp_path / "j.jsonl").exists()  # not being reached is no judgement


def questions(path: Path, *answers: str | None) -> Path:
    run = HandMadeRun(path)
    run.task("chat", [Sample(str(i), text="who?") for i, _ in enumerate(answers)], ("judge_score",), job="conversation")
    return run.predict(*(answer("chat", str(i), text) for i, text in enumerate(answers))).path


def test_all_replies_unusable(serve, tmp_path: Path) -> None:
    scores = score(questions(tmp_path, "x", "y", "z"), serve("as a language model I").judge())
    figure = scores.tasks["chat"].metrics["judge_score"]
    assert (figure.value, figure.n, figure.parts) == (1, 3, {"unusable": 3})
    assert scores.judge.startswith("api/grader/")


def test_failed_answers_are_not_asked_about(serve, tmp_path: Path) -> None:
    server = serve("5")
    figure = score(questions(tmp_path, "x", None), server.judge()).tasks["chat"].metrics["judge_score"]
    assert (figure.value, figure.n, figure.failed, len(server.asked)) == (3, 2, 1, 1)


def test_rules() -> None:
    assert Rules().reply("q", "twenty one\ntwo dozen", "21!") == "1" and Rules().reply("q", "yes", "not yes") == "0"


def test_names() -> None:
    assert identity(named("rules")).startswith("rules/1/")
    assert named("api:http://host/v1#m").version == "m" and named("recorded:api/m").name == "api"
    assert named("local:some/checkpoint").version == "checkpoint"
    for wrong in ("gpt", "api:http://host", "local:", "api:ftp://x#m"):
        with pytest.raises(ValueError):
            named(wrong)


def test_the_file_survives_a_torn_line_and_refuses_a_strange_one(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    Judgements(path).obtain("j", content_key("a"), lambda: "line\u2028separator")
    with path.open("a") as file:
        file.write('{"judge": "j", "ke')
    again = Judgements(path)
    assert again.obtain("j", content_key("a"), lambda: "asked again") == "line\u2028separator"
    again.obtain("j", content_key("b"), lambda: "2")
    assert Judgements(path).obtain("j", content_key("b"), lambda: "asked again") == "2"
    path.write_text("{}\n")
    with pytest.raises(ValueError, match="line 1 is no judgement"):
        Judgements(path)
    assert content_key("a", "bc") != content_key("ab", "c")


def test_a_local_model(tmp_path: Path) -> None:
    """A random model gives a reply, whatever it is; greedy, so that it is the same twice."""
    tokenizer = text_tokenizer()
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    tokenizer.save_pretrained(tmp_path)
    tiny_qwen2(vocab_size=len(tokenizer), max_position_embeddings=2048).save_pretrained(tmp_path)
    judge = named(f"local:{tmp_path}")
    assert judge.reply("q", "r", "a") == judge.reply("q", "r", "a") != ""
