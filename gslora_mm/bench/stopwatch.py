"""A stopwatch for the parts of a run, whose code knows nothing of it."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner, ValLoop
from torch import nn
from torch.profiler import record_function
from torch.utils.data.dataloader import _BaseDataLoaderIter

from gslora_mm.training import BFloat16OptimWrapper, ForgettingModel
from gslora_mm.training.forgetting_model import DetachedOutput

#: Parts of an iteration, in their order.
ITERATION = (
    'data',
    'trunk',
    'Transformer',
    'head and loss',
    'backward',
    'optimizer',
)
#: What has parts of its own that are not told apart.
CLOSED = ('checks', 'evaluation', 'report')


def synchronize() -> None:
    """Wait until the GPU, if there is one, has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Stopwatch:
    """Seconds of the parts of a run.

    A part inside another one counts for itself alone, so that the parts add
    up to the whole. In a profile, parts appear by their names.

    Args:
        clock (Callable[[], float], optional): Gives seconds; waits for the
            GPU by default.

    Attributes:
        seconds (dict[str, float]): By name of the part.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._clock = clock or self._wait_and_look
        self._parts: list[str] = []
        self._since = 0.0

    @staticmethod
    def _wait_and_look() -> float:
        synchronize()
        return time.perf_counter()

    def _count(self) -> None:
        now = self._clock()
        if self._parts:
            part = self._parts[-1]
            spent = self.seconds.get(part, 0.0) + now - self._since
            self.seconds[part] = spent
        self._since = now

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what happens inside as one part."""
        if self._parts and self._parts[-1] in (name, *CLOSED):
            yield
            return
        self._count()
        self._parts.append(name)
        try:
            with record_function(name):
                yield
        finally:
            self._count()
            self._parts.pop()

    def take(self) -> dict[str, float]:
        """The seconds so far; it starts at zero again."""
        seconds, self.seconds = self.seconds, {}
        return seconds

    def timed(self, function: Callable, name: str) -> Callable:
        """The same function, or function with a context, as a part."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return call

    def watch_model(self, model: nn.Module) -> None:
        """Count the passes through one model for as long as it lives.

        Args:
            model (nn.Module): A stock model, or one that is made to forget.
        """
        if isinstance(model, ForgettingModel):
            method = model.method
            for name in ('before_update', 'after_update'):
                self._watch(method, name, 'optimizer')
            self._watch(model.data_preprocessor, 'forward', 'data')
            model = model.model
        elif hasattr(model, 'data_preprocessor'):
            self._watch(model.data_preprocessor, 'forward', 'data')
        self._watch(model, 'extract_feat', 'trunk')
        if hasattr(model, 'forward_transformer'):
            self._watch(model, 'forward_transformer', 'Transformer')

    def _watch(self, owner: object, name: str, part: str) -> None:
        setattr(owner, name, self.timed(getattr(owner, name), part))

    @contextlib.contextmanager
    def watching_training(self) -> Iterator[None]:
        """Count data, loss, backward pass and update of any training."""
        with contextlib.ExitStack() as stack:

            def watch(owner: type, name: str, part: str) -> None:
                original = vars(owner)[name]
                stack.callback(setattr, owner, name, original)
                setattr(owner, name, self.timed(original, part))

            for cls in (OptimWrapper, AmpOptimWrapper, BFloat16OptimWrapper):
                if 'optim_context' in vars(cls):
                    original = cls.optim_context
                    stack.callback(setattr, cls, 'optim_context', original)
                    cls.optim_context = self._context(original)
                for name, part in (
                    ('backward', 'backward'),
                    ('step', 'optimizer'),
                    ('zero_grad', 'optimizer'),
                ):
                    if name in vars(cls):
                        watch(cls, name, part)
            watch(DetachedOutput, 'backward', 'backward')
            watch(_BaseDataLoaderIter, '__next__', 'data')
            yield

    def _context(self, original: Callable) -> Callable:
        @contextlib.contextmanager
        def context(*args: Any, **kwargs: Any) -> Iterator[None]:
            with self.part('head and loss'), original(*args, **kwargs):
                yield

        return context

    @contextlib.contextmanager
    def watching_sequence(self) -> Iterator[None]:
        """Count checks, evaluation and report of a sequence, and training."""
        from gslora_mm import reports
        from gslora_mm.sequence import run

        init = ForgettingModel.__init__

        @functools.wraps(init)
        def build(built: Any, /, *args: Any, **kwargs: Any) -> None:
            init(built, *args, **kwargs)
            self.watch_model(built)

        with contextlib.ExitStack() as stack:
            stack.enter_context(self.watching_training())
            for owner, name, part in (
                (run, 'check_sequence', 'checks'),
                (Runner, 'val', 'evaluation'),
                (ValLoop, 'run', 'evaluation'),
                (reports, 'write_report', 'report'),
            ):
                original = getattr(owner, name)
                stack.callback(setattr, owner, name, original)
                setattr(owner, name, self.timed(original, part))
            stack.callback(setattr, ForgettingModel, '__init__', init)
            ForgettingModel.__init__ = build
            yield
