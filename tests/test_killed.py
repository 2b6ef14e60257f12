"""The command line killed at random moments, and interrupted: the same command finishes with the same results."""

import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from tests.audit.test_pipeline import assert_same_results
from tests.test_main import ROOT, command

pytestmark = [pytest.mark.slow, pytest.mark.optax]
KILLS = 8


def start(workdir, *overrides):
    arguments = command("--config=configs/smoke.py", f"--workdir={workdir}", *overrides)
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(workdir, *overrides):
    process = start(workdir, *overrides)
    out, error = process.communicate(timeout=600)
    assert process.returncode == 0, error
    return out


def test_killed_runs_resume_to_the_same_results(tmp_path):
    started = time.monotonic()
    out = finish(tmp_path / "whole")
    whole = time.monotonic() - started
    assert out.strip().endswith("whole/report.html")
    rng = random.Random(0)
    for _ in range(KILLS):
        process = start(tmp_path / "killed")
        try:
            process.wait(timeout=rng.uniform(0.1, 0.6) * whole)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
    finish(tmp_path / "killed")
    assert_same_results(tmp_path / "killed", tmp_path / "whole")


def test_ctrl_c_says_how_to_resume(tmp_path):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would hand down that it ignores
    process = start(tmp_path / "run")
    while not (tmp_path / "run" / "target" / "spec.json").exists():
        time.sleep(0.2)
        assert process.poll() is None, process.communicate()[1]
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "interrupted; the same command resumes" in error
    assert "Traceback" not in error


def test_page_fits_its_window_in_chromium(tmp_path):
    """Rendered at 1280 pixels: pictures are there, and nothing is cut off at the right."""
    chromium = shutil.which("chromium")
    assert chromium, "needs chromium: apt-get install chromium"
    finish(tmp_path / "run", "--config.methods=('random','ol_ti','side')")
    page = tmp_path / "run" / "report.html"
    probe = (
        "<script>document.title = 'width ' + document.documentElement.scrollWidth + ' images ' + [...document.images]"
    )
    probe += ".filter(i => i.naturalWidth > 0).length + ' cut ' + [...document.querySelectorAll('.scroll')]"
    probe += ".filter(e => e.scrollWidth > e.clientWidth).length</script>"
    page.write_text(page.read_text().replace("</body>", f"{probe}</body>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--window-size=1280,900"]
    done = subprocess.run(
        [chromium, *flags, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    title = done.stdout[done.stdout.index("<title>") + 7 : done.stdout.index("</title>")]
    words = title.split()
    assert int(words[1]) <= 1280
    assert int(words[3]) >= 2 * 4 * 3
    assert int(words[5]) == 0
