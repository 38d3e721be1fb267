"""A third of a short command's time is imports that inference never uses; here they are left out of the program.

`import transformers.modeling_utils` imports PyTorch's compiler, its distributed tensors and SciPy's optimizers:
together about as long as PyTorch itself takes. They serve `torch.compile`, training on many devices and
the losses of object detection. A command that loads a checkpoint and runs it once calls none of them.

PyTorch also loads SymPy to compare the sizes of an empty model, though all of them are plain numbers.

The program alone does this, never the package: `import spikeaudio` changes nothing for other code. transformers is told
what it would find on an installation without those parts. Two things last as long as the process:

- `torch._dynamo`, SymPy and PyTorch's symbolic shapes run their bodies when one of their names is first used;
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
# Questions that PyTorch asks about every size, and the answers where nothing is a symbol.
_SHAPES = "torch.fx.experimental.symbolic_shapes"
_THEMSELVES = ("expect_true", "guard_or_false", "guard_or_true", "guard_size_oblivious", "size_hint")
_ANSWERS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(_THEMSELVES, lambda value: value),
    "has_hint": lambda value: True,
    "is_nested_int": lambda value: False,
    "sym_and": lambda *values: all(values),
    "sym_or": lambda *values: any(values),
}


def import_light() -> None:
    """Import transformers' models and ours: the same classes in less time. Does nothing where they are imported."""
    if "transformers.modeling_utils" in sys.modules:
        return
    collects = gc.isenabled()
    gc.disable()  # imports make a million objects that all stay: looking for garbage among them finds none
    try:
        import torch

        _postpone("torch._dynamo", "_trace_wrapped_higher_order_op", **dict.fromkeys(_MARKS, _unmarked))
        _postpone("sympy", Basic=type("Basic", (), {}))  # the class of symbols, of which there are none yet
        _postpone(_SHAPES, None, **{name: _of_numbers(name) for name in _ANSWERS})
        with mock.patch.object(torch.distributed, "is_available", lambda: False), _hidden("scipy"):
            importlib.import_module("transformers.modeling_utils")
        importlib.import_module("spikeaudio.pipeline")
    finally:
        gc.freeze()
        if collects:
            gc.enable()


class _Postponed(ModuleType):
    """A module whose body runs when a name that it lacks is asked for; importing a submodule asks for its path."""

    def __getattr__(self, name: str) -> Any:
        spec = self.__spec__
        assert spec is not None and spec.loader is not None
        if name.startswith("__") and (name != "__path__" or spec.submodule_search_locations is None):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__class__ = ModuleType  # type: ignore[assignment]  # from now on a module like any other
        if spec.submodule_search_locations is not None:
            self.__path__ = spec.submodule_search_locations
        spec.loader.exec_module(self)  # its names take the place of the given ones
        return getattr(self, name)


def _postpone(name: str, submodule: str | None = None, **given: Any) -> None:
    """Put a module into ``sys.modules`` without running its body, unless that is done.

    Args:
        name: full name of the module.
        submodule: one submodule that does not need the body; it is imported now. None: there is none.
        given: names that the module has until its body runs.
    """
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is None:
        return
    module = importlib.util.module_from_spec(spec)
    vars(module).update(given)
    parent, _, leaf = name.rpartition(".")
    sys.modules[name] = module
    if parent:
        setattr(sys.modules[parent], leaf, module)
    if submodule is not None:
        importlib.import_module(f"{name}.{submodule}")
    module.__class__ = _Postponed
    if spec.submodule_search_locations is not None:
        del module.__path__


def _of_numbers(name: str) -> Callable[..., Any]:
    """A question about sizes: answered here for plain numbers, handed on for symbols."""

    def ask(*args: Any, **kwargs: Any) -> Any:
        if not kwargs and all(type(value) in (bool, int) for value in args):
            return _ANSWERS[name](*args)
        shapes = sys.modules[_SHAPES]
        assert shapes.ShapeEnv  # a name that only the body has: now it has run
        return getattr(shapes, name)(*args, **kwargs)

    return ask


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
