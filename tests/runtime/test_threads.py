import threading

import pytest

from side_jax.runtime import preemption
from side_jax.runtime.threads import in_threads


def test_results_are_in_order_and_items_read_as_needed():
    read = []

    def items():
        for i in range(1000):
            read.append(i)
            yield i

    results = in_threads(lambda i: (i, threading.current_thread()), items())
    first = next(results)
    assert first[0] == 0 and len(read) < 100
    rest = list(results)
    assert [i for i, _ in rest] == list(range(1, 1000))
    assert threading.current_thread() not in {thread for _, thread in rest}
    assert list(in_threads(str, [])) == []


def test_error_of_an_item_is_the_callers():
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda i: 1 // i, [1, 0, 2]))


def test_sigterm_ends_it(monkeypatch):
    results = in_threads(str, range(1000))
    assert next(results) == "0"
    monkeypatch.setattr(preemption, "requested", lambda: True)
    with pytest.raises(preemption.Preempted):
        next(results)
