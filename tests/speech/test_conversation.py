"""A conversation keeps its cache, forgets the oldest turns, and says what the same messages would have said."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from spikeaudio.lm.legal_tokens import LegalTokens, stop_token_ids
from spikeaudio.pipeline import SpikeAudio
from spikeaudio.prompt.limits import Limits
from spikeaudio.speech.conversation import Conversation
from spikeaudio.speech.events import AudioEvent, TextEvent
from spikeaudio.speech.result import Reply
from tests.fixtures.checkpoint import write_checkpoint

RATE = 16000


@pytest.fixture(scope="module", params=["spikeaudio", "kimi"])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SpikeAudio:
    """A random model with one of the two layouts of prompts."""
    return SpikeAudio.from_pretrained(
        write_checkpoint(tmp_path_factory.mktemp(request.param) / "m", False, request.param)
    )


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> SpikeAudio:
    return SpikeAudio.from_pretrained(tiny_checkpoint)


def noise(seconds: float, seed: int = 0) -> Tensor:
    return torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed)) * 0.1


def asks(wav: Tensor) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "audio", "audio": wav}]}


def answered(reply: Reply) -> dict[str, Any]:
    blocks: list[dict[str, Any]] = [{"type": "text", "text": reply.text}]
    return {
        "role": "assistant",
        "content": blocks + [{"type": "audio", "codes": reply.codes}] * (reply.codes is not None),
    }


def says(model: SpikeAudio, text: str) -> Callable[[int, Tensor], list[int]]:
    """A constraint that has an answer say this text, wherever it begins."""
    ids, begun = [*model.processor.text_ids(text), model.processor.layout.text_eos_token_id], []

    def allowed(row: int, prefix: Tensor) -> list[int]:
        begun.append(len(prefix))
        return [ids[min(len(prefix) - begun[0], len(ids) - 1)]]

    return allowed


@pytest.fixture
def positions(model: SpikeAudio) -> Iterator[list[int]]:
    """Length of each forward pass of `model`."""
    seen: list[int] = []
    hook = model.model.model.layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[1]))
    yield seen
    hook.remove()


@pytest.mark.parametrize("speech", [False, True])
def test_turns_are_what_the_messages_say(either: SpikeAudio, speech: bool) -> None:
    """Three turns on a kept cache equal chats that show the whole conversation."""
    legal = LegalTokens.of(either.model.config)
    legal.audio[list(stop_token_ids(either.model.config))] = False  # or a random model stops at once
    options: dict[str, Any] = {"max_new_tokens": 25, "audio_temperature": 1.0, "legal_tokens": legal}
    conversation = either.conversation(speech=speech, **options)
    messages: list[dict[str, Any]] = []
    for turn, text in enumerate(("hello", "how are you", "the fox")):
        messages.append(asks(noise(0.4 + 0.1 * turn, turn)))
        kept = conversation.say(audio=noise(0.4 + 0.1 * turn, turn), prefix_allowed_tokens_fn=says(either, text))
        fresh = either.chat(messages, speech=speech, prefix_allowed_tokens_fn=says(either, text), **options)
        assert kept.text == fresh.text == text
        if speech:
            assert kept.codes is not None and fresh.codes is not None and len(kept.codes) > 10
            assert torch.equal(kept.codes, fresh.codes)
            assert torch.equal(kept.wav, fresh.wav)
        torch.testing.assert_close(kept.score, fresh.score)
        messages.append(answered(fresh))


def test_a_turn_costs_its_own_positions(
    model: SpikeAudio, positions: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier recordings are neither encoded nor run again."""
    encoded: list[int] = []
    encode = type(model.tokenizer).encode
    monkeypatch.setattr(
        type(model.tokenizer), "encode", lambda self, wavs: encoded.append(len(wavs)) or encode(self, wavs)
    )
    conversation = model.conversation(speech=False, max_new_tokens=6)
    for seed in range(3):
        positions.clear()
        conversation.say(audio=noise(1.0, seed))
        alone = model.processor.apply_chat_template([asks(noise(1.0, seed))])["input_ids"].shape[1]
        assert alone <= positions[0] <= alone + 3  # the last id of the answer before, its end, and the message's
        assert set(positions[1:]) <= {1}
    assert encoded == [1] * 6  # three by the conversation, three by this test


@pytest.mark.parametrize("memory", [0, 1, 2, 3, 5])
def test_memory_is_a_number_of_turns(model: SpikeAudio, memory: int) -> None:
    """The last answer is that to the messages of the last turns."""
    conversation = model.conversation(memory, speech=False, max_new_tokens=6)
    messages: list[dict[str, Any]] = []
    for turn in range(7):
        assert len(conversation) == min(turn, memory)
        said = {"prefix_allowed_tokens_fn": says(model, "hello you")} if turn < 6 else {}
        reply = conversation.say(audio=noise(0.3, turn), **said)
        messages += [asks(noise(0.3, turn)), answered(reply)]
    shown = messages[len(messages) - 2 - 2 * memory : -1]
    expected = model.chat(shown, speech=False, max_new_tokens=6)
    assert reply.text == expected.text
    torch.testing.assert_close(reply.score, expected.score)


def test_a_full_context_forgets_the_oldest(model: SpikeAudio) -> None:
    conversation = model.conversation(speech=False, max_new_tokens=4)
    remembered = []
    for turn in range(30):
        conversation.say(audio=noise(2.0, turn))
        remembered.append(len(conversation))
    assert remembered[:5] == [1, 2, 3, 4, 5]
    assert 5 < remembered[-1] < 20
    with pytest.raises(ValueError, match=r"takes \d+ positions of 80 ms, but this model has 512"):
        conversation.say(audio=noise(60.0))
    conversation.say(audio=noise(0.5))  # and goes on
    conversation.forget()
    assert len(conversation) == 0
    again = model.conversation(speech=False, max_new_tokens=4)
    assert conversation.say(audio=noise(0.5)).score == again.say(audio=noise(0.5)).score


def test_two_conversations_do_not_mix(model: SpikeAudio) -> None:
    options: dict[str, Any] = {"max_new_tokens": 15, "audio_temperature": 1.0}

    def say(conversation: Conversation, turn: int) -> list[int]:
        codes = conversation.say(audio=noise(0.3, turn + 10 * conversation.speaker.seed)).codes
        assert codes is not None
        return codes.tolist()

    mixed = [model.conversation(seed=seed, **options) for seed in (1, 2)]
    together = [[say(conversation, turn) for conversation in mixed] for turn in range(2)]
    for number, seed in enumerate((1, 2)):
        alone = model.conversation(seed=seed, **options)
        assert [say(alone, turn) for turn in range(2)] == [codes[number] for codes in together]


def test_streams_of_a_conversation_are_what_it_says(model: SpikeAudio) -> None:
    options: dict[str, Any] = {"max_new_tokens": 25, "audio_temperature": 1.0}
    told, streamed = model.conversation(**options), model.conversation(**options)
    for turn in range(2):
        reply = told.say(audio=noise(0.3, turn))
        events = list(streamed.stream(audio=noise(0.3, turn)))
        assert "".join(event.text for event in events if isinstance(event, TextEvent)) == reply.text
        codes = [event.codes for event in events if isinstance(event, AudioEvent)]
        assert torch.equal(torch.cat([torch.zeros(0, dtype=torch.long), *codes]), reply.codes)
    assert len(told) == len(streamed) == 2


def test_a_closed_stream_has_stopped_and_is_remembered(model: SpikeAudio, positions: list[int]) -> None:
    """What was said until then stands in the past, and nothing runs on."""
    legal = LegalTokens.of(model.model.config)
    legal.audio[list(stop_token_ids(model.model.config))] = False
    threads = threading.active_count()
    conversation = model.conversation(legal_tokens=legal, max_new_tokens=400)
    events = conversation.stream(audio=noise(0.5))
    for event in events:
        if isinstance(event, AudioEvent):
            break
    steps = len(positions)
    assert 3 < steps < 40 and threading.active_count() == threads
    events.close()  # type: ignore[attr-defined]
    assert len(positions) == steps and len(conversation) == 1
    positions.clear()
    conversation.say("hello", max_new_tokens=3)
    assert positions[0] < 40


def test_streams_say_at_once_what_is_wrong(model: SpikeAudio) -> None:
    for wrong, message in (
        (lambda: model.stream("nowhere.wav"), "nowhere.wav"),
        (lambda: model.stream(noise(0.3), audio_temprature=1.0), "audio_temprature"),
        (lambda: model.stream([{"role": "assistant", "content": "hello"}]), "must be the user's"),
        (lambda: model.stream(noise(60.0)), "this model has 512"),
        (lambda: model.stream(noise(0.3), voice=noise(0.01)), "a voice must be"),
        (lambda: model.conversation().stream(), "nothing to answer"),
        (lambda: model.conversation(-1), "got -1"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            wrong()


# -- limits of a checkpoint --------------------------------------------------------------------------------------------


@pytest.fixture
def limited(model: SpikeAudio, monkeypatch: pytest.MonkeyPatch) -> Callable[..., SpikeAudio]:
    """`model` with declared limits."""

    def limit(**limits: Any) -> SpikeAudio:
        monkeypatch.setattr(model.processor, "limits", Limits(**limits))
        return model

    return limit


def test_more_turns_than_it_learned(limited: Callable[..., SpikeAudio]) -> None:
    model = limited(max_turns=2)
    options: dict[str, Any] = {"speech": False, "max_new_tokens": 3}
    turn = [asks(noise(0.3)), {"role": "assistant", "content": "hello"}]
    model.chat([*turn, asks(noise(0.3))], **options)
    for job in (model.chat, model.stream):
        with pytest.raises(ValueError, match=r"conversations of up to 2 turns .* got 3 turns"):
            job([*turn, *turn, asks(noise(0.3))], **options)
    with pytest.raises(ValueError, match="got 3 turns"):
        model.conversation(memory=2)
    conversation = model.conversation(**options)  # as many as it learned
    for _ in range(3):
        conversation.say("hello")
    assert len(conversation) == 1
    single = limited(max_turns=1)
    with pytest.raises(ValueError, match="single questions"):
        single.chat([*turn, asks(noise(0.3))], **options)
    conversation = single.conversation(**options)
    assert conversation.say("hello") == conversation.say("hello")
    assert len(conversation) == 0


@pytest.mark.parametrize("speech", [True, False])
def test_an_answer_that_is_not_sure(limited: Callable[..., SpikeAudio], speech: bool) -> None:
    """Below the least score the model says what it is told to say; above, nothing changes."""
    options: dict[str, Any] = {"speech": speech, "max_new_tokens": 20}
    free = limited().chat(noise(0.5), **options)
    assert free.score is not None and free.score < 0 and free.understood
    sure = limited(least_score=free.score - 0.01, unknown_answer="how are you")
    assert sure.chat(noise(0.5), **options).text == free.text
    streamed = list(sure.stream(noise(0.5), **options))
    assert "".join(event.text for event in streamed if isinstance(event, TextEvent)) == free.text
    unsure = limited(least_score=free.score + 0.01, unknown_answer="how are you")
    reply = unsure.chat(noise(0.5), **options)
    assert (reply.text, reply.understood, reply.score) == ("how are you", False, free.score)
    events = list(unsure.stream(noise(0.5), **options))
    assert "".join(event.text for event in events if isinstance(event, TextEvent)) == "how are you"
    sounds = [event.codes for event in events if isinstance(event, AudioEvent)]
    if speech:
        spoken = unsure.speak("how are you")
        assert torch.equal(reply.codes, spoken.codes) and torch.equal(torch.cat(sounds), spoken.codes)
        assert torch.equal(reply.wav, spoken.wav)
    else:
        assert reply.wav is None and not sounds


def test_a_typed_question_is_answered_and_read_aloud(limited: Callable[..., SpikeAudio]) -> None:
    """Where the model did not learn to answer it aloud: text and sound then agree."""
    model = limited(speaks_when_typed_to=False)
    typed = [{"role": "user", "content": "what is two"}]
    written = model.chat(typed, speech=False, max_new_tokens=10)
    reply = model.chat(typed, max_new_tokens=10)
    spoken = model.speak(reply.text)
    assert reply.text == written.text
    assert torch.equal(reply.codes, spoken.codes) and torch.equal(reply.wav, spoken.wav)
    events = list(model.stream(typed, max_new_tokens=10))
    assert "".join(event.text for event in events if isinstance(event, TextEvent)) == reply.text
    codes = [event.codes for event in events if isinstance(event, AudioEvent)]
    assert torch.equal(torch.cat(codes), reply.codes)
    assert model.conversation(max_new_tokens=10).say("what is two").text == reply.text
    heard = model.chat(noise(0.5), max_new_tokens=10)
    assert torch.equal(heard.codes, limited().chat(noise(0.5), max_new_tokens=10).codes)  # spoken to: as before


def test_limits_are_the_checkpoints(model: SpikeAudio, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    assert SpikeAudio.from_pretrained(tmp_path).processor.limits == Limits()
    processor = SpikeAudio.from_pretrained(tmp_path).processor
    processor.limits = Limits(max_turns=1, least_score=-0.5, unknown_answer="no")
    processor.save_pretrained(tmp_path)
    assert SpikeAudio.from_pretrained(tmp_path).processor.limits == processor.limits
    with pytest.raises(ValueError, match=r"unknown limits \['turns'\]"):
        Limits.of({"turns": 1})
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Limits(max_turns=0)
