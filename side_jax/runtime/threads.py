"""One function of many items, in threads: for decoders and hashes, which let other Python code run meanwhile."""

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from side_jax.runtime import preemption

_AHEAD = 64  # items in work or done and not yet taken: memory does not grow with their number

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`function` of every item, in order. Items are read as they are needed, in the caller's thread.

    Raises:
      Preempted: between two results, if this process has been asked to stop.
    """
    items, waiting = iter(items), collections.deque[Future[Result]]()
    with ThreadPoolExecutor() as pool:
        try:
            waiting.extend(pool.submit(function, item) for item in itertools.islice(items, _AHEAD))
            while waiting:
                preemption.check()
                yield waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in itertools.islice(items, 1))
        finally:
            for future in waiting:
                future.cancel()
