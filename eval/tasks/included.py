"""Files outside the package that add jobs, figures, tasks and adapters, given as --include.

    from eval.metrics import register_metric
    from eval.metrics.count import Count, Metric
    from eval.task import Job, Task, register_job
    from eval.tasks import register_task

    SPOTTING = register_job(Job("spotting", hears=True, writes=True, done_as="aqa", metrics=("spotted",)))
    register_metric("spotted", Metric("keywords found", "share", "higher", lambda case: Count(...)))
    register_task(Task("my_task", SPOTTING, ManifestSource(Path("my_task.jsonl"), SPOTTING)))

    python -m eval run --include my_tasks.py --tasks my_task --model MODEL
    python -m eval report --include my_tasks.py

A run does not hold the code of its figures: every verb that scores needs the file again.
"""

import importlib.util
import sys
from pathlib import Path


def include(path: Path) -> None:
    """Run a file that registers what it adds.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it registers a name that is taken.
        Exception: whatever else the file raises.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file to include: {path}")
    name = f"eval_included_{path.stem}"
    if getattr(sys.modules.get(name), "__file__", None) == str(path.resolve()):
        return
    specification = importlib.util.spec_from_file_location(name, path.resolve())
    if specification is None or specification.loader is None:
        raise ValueError(f"expected a Python file to include, got {path}")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # its classes can be pickled
    specification.loader.exec_module(module)
