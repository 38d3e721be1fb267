"""Speech in one language, to be written in another: BLEU and chrF of the corpus."""

from eval.task import AQA, Task
from eval.tasks.rows import Columns
from eval.tasks.source import CONVERTED, HubDataset, Source

_REQUEST = "Translate the speech into {}."
_FLEURS = Columns(references="raw_transcription", meta=("id",))  # with capitals and punctuation, which BLEU counts


def _task(name: str, into: tuple[str, str], source: str, hub: HubDataset | None = None) -> Task:
    language, title = into
    samples, request = Source(name, AQA, source, hub), _REQUEST.format(title)
    return Task(name, AQA, samples, ("bleu", "chrf"), request, language, citation=source)


_COVOST = (
    "Common Voice 4 (datacollective.mozillafoundation.org, CC0) and the translations of "
    "github.com/facebookresearch/covost (CoVoST 2, CC BY-NC 4.0), whose script get_covost_splits.py writes {}; "
    "with clips/ beside it."
)
_FLEURS_SOURCE = "hf download --repo-type dataset google/fleurs (FLEURS {} and {}, CC BY 4.0)."
TASKS = (
    _task("covost2_en_de", ("de", "German"), _COVOST.format("covost_v2.en_de.test.tsv")),
    _task("covost2_en_zh", ("zh", "Chinese"), _COVOST.format("covost_v2.en_zh-CN.test.tsv")),
    _task("covost2_de_en", ("en", "English"), _COVOST.format("covost_v2.de_en.test.tsv")),
    _task(
        "fleurs_st_en_de",
        ("de", "German"),
        _FLEURS_SOURCE.format("en_us", "de_de"),
        HubDataset("google/fleurs", "en_us", columns=_FLEURS, revision=CONVERTED, answers="de_de"),
    ),
    _task(
        "fleurs_st_zh_en",
        ("en", "English"),
        _FLEURS_SOURCE.format("cmn_hans_cn", "en_us"),
        HubDataset("google/fleurs", "cmn_hans_cn", columns=_FLEURS, revision=CONVERTED, answers="en_us"),
    ),
)
