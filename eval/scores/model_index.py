"""Figures as the ``model-index`` block of a Hugging Face model card."""

from typing import Any

from eval.scores.scored_run import ScoredRun
from eval.task import job_named


def model_index(name: str, scores: ScoredRun) -> list[dict[str, Any]]:
    """The block as data, checked and laid out by huggingface_hub; shares in percent, as leaderboards have them.

    Args:
        name: name of the model.
        scores: scores of its run.
    """
    from huggingface_hub.repocard_data import EvalResult, eval_results_to_model_index

    results = []
    for task, metric, figure in scores.figures():
        scale = 100 if figure.unit == "share" else 1
        value, low, high = (round(scale * number, 4) for number in (figure.value, figure.low, figure.high))
        results.append(
            EvalResult(
                task_type=job_named(scores.tasks[task].job).hub_task,
                dataset_type=task,
                dataset_name=task.replace("_", " "),
                metric_type=metric,
                metric_value=value,
                metric_name=figure.title + (" (%)" if scale == 100 else ""),
                metric_args={"low_95": low, "high_95": high, "samples": figure.n, "failed": figure.failed}
                | ({"rules": figure.signature} if figure.signature else {}),
            )
        )
    return eval_results_to_model_index(name, results)


def model_index_yaml(name: str, scores: ScoredRun) -> str:
    """The block as the YAML that a model card's head holds."""
    import yaml

    return str(yaml.safe_dump({"model-index": model_index(name, scores)}, sort_keys=False, allow_unicode=True))
