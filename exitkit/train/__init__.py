"""Training: from settings to a run.

The package can be called: `exitkit.train(method="mate", epochs=5)` trains a run and returns it.
Once this package is imported, Python binds the name `exitkit.train` to it, so that a function of
that name could not be reached any more.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exitkit.runs import Run


class _Callable(ModuleType):
    """A module that trains when it is called."""

    def __call__(self, **settings: Any) -> "Run":  # Any: see session.train
        """Train a run to its end and return its files; see `exitkit.train.session.train`."""
        from exitkit.train.session import train

        return train(**settings)


sys.modules[__name__].__class__ = _Callable
