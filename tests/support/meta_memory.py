"""The largest memory that a computation takes at a time, by running it on tensors without contents."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of all storages that are made while it is on, and the most that were alive together.

    Attributes:
        alive, peak: Bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alive, self.peak = 0, 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        inside = {value.untyped_storage()._cdata for value in tree_iter((args, kwargs)) if isinstance(value, Tensor)}
        for value in tree_iter(out):
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                if storage._cdata not in inside and storage._cdata not in self._known:
                    self._note(storage)
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._known[key] = size
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.alive -= self._known.pop(key)
