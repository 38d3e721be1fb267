"""A third of a short command's time is imports that inference never uses; here they are left out of the program.

`import transformers.modeling_utils` imports PyTorch's compiler, its distributed tensors and SciPy's optimizers:
together about as long as PyTorch itself takes. They serve `torch.compile`, training on many devices and
the losses of object detection. A command that loads a checkpoint and runs it once calls none of them.

The program alone does this, never the package: `import spikeaudio` changes nothing for other code. transformers is told
what it would find on an installation without those parts. Two things last as long as the process:

- `torch._dynamo` runs its body when one of its names is first used, instead of at its import;
- transformers remembers that it has neither distributed PyTorch nor SciPy, so commands that train must not use this.

`eval/benchmarks/startup.py` measures what this is worth.
"""

import gc
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from unittest import mock

# Decorators that tell the compiler something about a function; without a compiler they change nothing.
_MARKS = ("disable", "allow_in_graph", "assume_constant_result")


def import_light() -> None:
    """Import transformers' models and ours: the same classes in less time. Does nothing where they are imported."""
    if "transformers.modeling_utils" in sys.modules:
        return
    collects = gc.isenabled()
    gc.disable()  # imports make a million objects that all stay: looking for garbage among them finds none
    try:
        import torch

        _postpone("torch._dynamo", "_trace_wrapped_higher_order_op", **dict.fromkeys(_MARKS, _unmarked))
        with mock.patch.object(torch.distributed, "is_available", lambda: False), _hidden("scipy"):
            importlib.import_module("transformers.modeling_utils")
        importlib.import_module("spikeaudio.pipeline")
    finally:
        gc.freeze()
        if collects:
            gc.enable()


class _Postponed(ModuleType):
    """A package whose body runs when a name that it lacks is asked for; importing a submodule asks for its path."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        spec = self.__spec__
        assert spec is not None and spec.loader is not None and spec.submodule_search_locations is not None
        self.__class__ = ModuleType  # type: ignore[assignment]  # from now on a module like any other
        self.__path__ = spec.submodule_search_locations
        spec.loader.exec_module(self)  # its names take the place of the given ones
        return getattr(self, name)


def _postpone(name: str, submodule: str, **given: Any) -> None:
    """Put a package into ``sys.modules`` without running its body, unless that is done.

    Args:
        name: full name of the package.
        submodule: one submodule that does not need the body; it is imported now.
        given: names that the package has until its body runs.
    """
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is None:
        return
    module = importlib.util.module_from_spec(spec)
    vars(module).update(given)
    parent, _, leaf = name.rpartition(".")
    sys.modules[name] = module
    setattr(sys.modules[parent], leaf, module)
    importlib.import_module(f"{name}.{submodule}")
    module.__class__ = _Postponed
    del module.__path__


def _unmarked(function: Callable[..., Any] | None = None, *args: Any, **kwargs: Any) -> Any:
    """As a decorator, with or without arguments: the function as it is."""
    return _unmarked if function is None else function


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Let a package that is not imported yet look as if it were not installed."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
