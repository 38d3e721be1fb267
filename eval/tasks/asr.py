"""Speech recognition: word error rates, character error rates for Chinese."""

from eval.task import ASR, Task
from eval.tasks.importers import fsdd
from eval.tasks.rows import Columns
from eval.tasks.source import CONVERTED, HubDataset, Reader, Source

_EVALKIT = "the script data/download_benchmark.py of Kimi-Audio-Evalkit downloads it and writes {}."


def _task(
    name: str,
    source: str,
    hub: HubDataset | None = None,
    subset: str | None = None,
    zh: bool = False,
    layout: Reader | None = None,
) -> Task:
    metrics = ("cer",) if zh else ("wer", "whisper_wer", "cer")
    samples = Source(name, ASR, source, hub, subset, layout)
    return Task(name, ASR, samples, metrics, language="zh" if zh else "en", citation=source)


_LIBRISPEECH = Columns(id="id", meta=("speaker_id",))
_FLEURS = Columns(references="transcription")
TASKS = (
    _task(
        "librispeech_clean",
        "hf download --repo-type dataset openslr/librispeech_asr (LibriSpeech test-clean, CC BY 4.0), or "
        + _EVALKIT.format("LibriSpeech.jsonl"),
        HubDataset("openslr/librispeech_asr", "clean", columns=_LIBRISPEECH),
        "test_clean",
    ),
    _task(
        "librispeech_other",
        "hf download --repo-type dataset openslr/librispeech_asr (LibriSpeech test-other, CC BY 4.0), or "
        + _EVALKIT.format("LibriSpeech.jsonl"),
        HubDataset("openslr/librispeech_asr", "other", columns=_LIBRISPEECH),
        "test_other",
    ),
    _task(
        "fleurs_en",
        "hf download --repo-type dataset google/fleurs (FLEURS en_us, CC BY 4.0), or "
        + _EVALKIT.format("Fleurs-en.jsonl"),
        HubDataset("google/fleurs", "en_us", columns=_FLEURS, revision=CONVERTED),
    ),
    _task(
        "fleurs_zh",
        "hf download --repo-type dataset google/fleurs (FLEURS cmn_hans_cn, CC BY 4.0), or "
        + _EVALKIT.format("Fleurs-zh.jsonl"),
        HubDataset("google/fleurs", "cmn_hans_cn", columns=_FLEURS, revision=CONVERTED),
        zh=True,
    ),
    _task(
        "aishell1",
        "www.openslr.org/33 (AISHELL-1 test, Apache 2.0); list it as CSV (audio_filepath,text), or "
        + _EVALKIT.format("AISHELL-1.jsonl"),
        zh=True,
    ),
    _task(
        "aishell2",
        "on application from www.aishelltech.com (AISHELL-2 iOS test, research only); list it as CSV "
        "(audio_filepath,text), or " + _EVALKIT.format("AISHELL-2.jsonl"),
        zh=True,
    ),
    _task(
        "wenetspeech_meeting",
        "on application from wenet.org.cn/WenetSpeech (TEST_MEETING, CC BY 4.0 labels, research only), then "
        + _EVALKIT.format("WenetSpeech.jsonl"),
        subset="test_meeting",
        zh=True,
    ),
    _task(
        "wenetspeech_net",
        "on application from wenet.org.cn/WenetSpeech (TEST_NET, CC BY 4.0 labels, research only), then "
        + _EVALKIT.format("WenetSpeech.jsonl"),
        subset="test_net",
        zh=True,
    ),
    _task(
        "common_voice",
        "from datacollective.mozillafoundation.org (Common Voice English, CC0): test.tsv, and clips/ beside it.",
    ),
    _task(
        "fsdd",
        "git clone github.com/Jakobovski/free-spoken-digit-dataset (CC BY-SA 4.0), of which recordings/ is read: takes "
        "0 to 4, the published test set.",
        layout=fsdd,
    ),
)
