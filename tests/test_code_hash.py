"""The source files that decide a result: all of them, and nothing else in them but code."""

from side_jax import code_hash
from side_jax.pipeline import STAGES

# Decides nothing that a spec does not hold: reading images and options, files, order, what is shown, comparisons after.
BOOKKEEPING = {
    *("__init__", "arrays", "artifacts", "batch_size", "code_hash", "distributed", "fields", "images", "lock"),
    *(
        "options",
        "pipeline",
        "preemption",
        "progress",
        "provenance",
        "scalars",
        "splitting",
        "stage_options",
        "status",
        "tfds_images",
    ),
    *("stages.__init__", "stages.audit", "stages.inside", "stages.pictures", "stages.report", "interop.__init__"),
    *("stages.against_random", "report.against_random"),
    *("cost.__init__", "cost.accelerators", "cost.count", "cost.disk", "cost.dry_run", "cost.jobs", "cost.programs"),
    *("cost.equal_compute", "evidence.equal_compute", "evidence.ratios"),
    *("evidence.__init__", "evidence.null", "evidence.summary"),
    *("evidence.table", "models.__init__", "report.__init__", "report.figures", "report.inside", "report.page"),
    *("report.steering", "report.wording", "representation.__init__", "theory.__init__"),
    *("evidence.forecast", "theory.informative_labels", "theory.memorization", "theory.relu_dae"),
    *("theory.linear_chains", "theory.linearisation", "theory.relu_dae_solutions"),
    "theory.spiked",
}


def test_every_module_decides_a_stage_or_is_known_not_to():
    deciding = {module for stage in code_hash.DECIDING for module in code_hash.code_hashes(stage)}
    assert deciding | BOOKKEEPING == set(code_hash.modules())
    assert not deciding & BOOKKEEPING


def test_kernel_decides_every_stage_that_samples_or_trains_and_guides_what_is_guided():
    kernel = {name for name in code_hash.modules("diffusion") if not name.endswith("__init__")}
    assert {"diffusion.transforms", "diffusion.solvers.ddim"} <= kernel
    for stage in code_hash.DECIDING:
        assert kernel <= set(code_hash.code_hashes(stage)), stage
    guides = {f"surrogate.{name}" for name in ("classifier", "exact", "guide", "stored")}
    for stage in ("distill", "extract"):
        assert guides <= set(code_hash.code_hashes(stage)), stage
    assert "stages.distill" in code_hash.code_hashes("distill")


def test_every_stage_with_a_spec_has_its_code():
    assert list(code_hash.DECIDING) == [stage.name for stage in STAGES if stage.spec]


SOURCE = '''"""A module."""
import os  # for paths

#: a constant
A = "# no comment"  # a comment


def f(x):
    """What it does,

    at length."""
    return f"{x!r} # no comment {A}" + """
# no comment"""


class B:
    "No code."
'''
CODE = '''import os
A = "# no comment"
def f(x):
    return f"{x!r} # no comment {A}" + """
# no comment"""
class B:'''


def test_comments_docstrings_and_blank_lines_are_no_code():
    assert code_hash.without_comments(SOURCE) == CODE
    assert code_hash.without_comments(SOURCE.replace("# for paths", "# for files")) == CODE
    assert code_hash.without_comments(SOURCE.replace("!r", "")) != CODE


def test_hashes_depend_on_the_code_of_a_file_and_not_on_its_place(tmp_path):
    for folder, source in (("one", SOURCE), ("two", f"# moved\n{SOURCE}"), ("three", SOURCE.replace("os", "io"))):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "f.py").write_text(source)
    one, two, three = (code_hash._hash(tmp_path / folder / "f.py") for folder in ("one", "two", "three"))
    assert one == two != three
