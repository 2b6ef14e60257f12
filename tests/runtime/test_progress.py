import re
from types import SimpleNamespace

import pytest
from etils import epath

from side_jax.runtime import progress
from side_jax.runtime.progress import Progress, TimeToGo, peak_memory_gib


def curves(folder):
    """Tag -> {step: value} of the event files in a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(folder)).Reload()
    tags = events.Tags()["tensors"]
    return {tag: {event.step: make_ndarray(event.tensor_proto) for event in events.Tensors(tag)} for tag in tags}


def test_line_says_how_much_of_what_how_fast_how_long_and_how_much_memory(capsys):
    with Progress("extract λ=5", 20, 4) as bar:
        bar.update(8)
    last = capsys.readouterr().err.split("\r")[-1]
    assert re.search(r"extract λ=5:  60%.* 12/20 \[\d\d:\d\d<\d\d:\d\d, +[\d.]+ images/s, \d+\.\d\d GiB\]", last)


def test_curves_are_written_by_images_done_now_and_then_and_at_the_end(tmp_path, monkeypatch):
    clock = iter([100.0, 102.0, 106.0, 106.0, 107.0, 109.0])  # start; update; update, write; update; end
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with Progress("extract λ=5", 20, 4, logs=epath.Path(tmp_path) / "logs") as bar:
        for _ in range(3):
            bar.update(4)
    read = curves(tmp_path / "logs")
    assert read["images_done"] == {12: 12, 16: 16}
    assert read["images_per_second"] == {12: pytest.approx(8 / 6), 16: pytest.approx(4 / 3)}
    assert set(read["device_memory_gib"]) == {12, 16}


def test_another_process_shows_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "is_primary", lambda: False)
    with Progress("extract λ=5", 20, logs=epath.Path(tmp_path) / "logs") as bar:
        bar.update(4)
    assert capsys.readouterr().err == ""
    assert list(tmp_path.iterdir()) == []


def test_nothing_done_leaves_no_curve(tmp_path):
    with Progress("extract λ=5", 20, 20, logs=epath.Path(tmp_path) / "logs"):
        pass
    assert list(tmp_path.iterdir()) == []


class Device:
    def __init__(self, stats):
        self._stats = stats

    def memory_stats(self):
        return self._stats


def test_memory_is_that_of_the_fullest_device_where_the_backend_knows_it(monkeypatch):
    devices = [Device({"peak_bytes_in_use": 2**30, "bytes_in_use": 5}), Device({"bytes_in_use": 3 * 2**30})]
    monkeypatch.setattr(progress.jax, "local_devices", lambda: devices)
    assert peak_memory_gib() == 3
    monkeypatch.undo()
    assert 0.05 < peak_memory_gib() < 100  # of this process, on CPU


@pytest.mark.parametrize(
    ("total", "level", "message"),
    [
        (36_100, "WARNING", "extract: about 9.0 hours to go on this device. fewer images makes it shorter"),
        (1_100, "INFO", "extract: about 15 minutes to go on this device"),
        (160, "INFO", "extract: about 54 seconds to go on this device"),
    ],
)
def test_time_to_go_is_said_once_from_the_second_batch_on(monkeypatch, caplog, total, level, message):
    caplog.set_level("INFO", "side_jax")
    clock = iter([100.0, 145.0, 300.0])  # the first batch compiles
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    to_go = TimeToGo("extract", total, "fewer images")
    to_go.update(50)
    assert not caplog.records
    to_go.update(50)
    to_go.update(50)
    (record,) = caplog.records
    assert record.levelname == level and record.getMessage().startswith(message)


def test_line_says_compiling_until_the_first_images_come(capsys):
    with Progress("extract λ=5", 20):
        assert "compiling" in capsys.readouterr().err
