"""A vCenter that fails on command: wraps any driver of the vSphere port, before or after the call takes effect."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class _Rule:
    method: str
    first: int
    last: float
    make: Callable[[], BaseException]
    after: bool


class FaultyVSphere:
    """Passes every call on, except those that ``fail`` named; ``calls`` counts them all."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._rules: list[_Rule] = []
        self.calls: Counter[str] = Counter()

    def fail(
        self,
        method: str,
        make: Callable[[], BaseException],
        *,
        nth: int = 1,
        count: float = 1,
        after: bool = False,
    ) -> None:
        """From the ``nth`` call of ``method`` counted from now, ``count`` calls raise what ``make`` makes.

        Args:
            method: name of the port's method.
            make: makes a new error for each call.
            nth: 1 is the next call.
            count: how many fail; ``math.inf`` for all that follow.
            after: the call takes effect, and only its answer is lost.
        """
        first = self.calls[method] + nth
        self._rules.append(_Rule(method, first, first + count - 1, make, after))

    def heal(self) -> None:
        """Forget all rules."""
        self._rules.clear()

    def __getattr__(self, method: str) -> Callable[..., Any]:
        inner = getattr(self._inner, method)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls[method] += 1
            number = self.calls[method]
            rule = next((one for one in self._rules if one.method == method and one.first <= number <= one.last), None)
            if rule is not None and not rule.after:
                raise rule.make()
            result = inner(*args, **kwargs)
            if rule is not None:
                raise rule.make()
            return result

        return call
