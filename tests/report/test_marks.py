import pytest
from etils import epath

from side_jax.report.marks import Mark, read_marks

RUN = "0123456789abcdef"


def written(tmp_path, *lines):
    path = epath.Path(tmp_path / "marks.csv")
    path.write_text("\n".join(["run,scale,index,mark", *lines]) + "\n")
    return path


def test_marks_of_the_page_are_read_back(tmp_path):
    path = written(tmp_path, f"{RUN},0.0,3,keep", f"{RUN},2.0,17,reject")
    assert read_marks(path, RUN) == [Mark(0.0, 3, True), Mark(2.0, 17, False)]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["fedcba9876543210,0.0,3,keep"], "marks of another run"),
        ([f"{RUN},0.0,3,perhaps"], "line 2 of .* is not a mark"),
        ([f"{RUN},0.0,3,keep", f"{RUN},0.0"], "line 3 of .* is not a mark"),
        ([f"{RUN},0.0,three,keep"], "line 2 of .* is not a mark"),
    ],
)
def test_other_marks_are_one_line(tmp_path, lines, message):
    with pytest.raises(ValueError, match=message):
        read_marks(written(tmp_path, *lines), RUN)


def test_a_file_that_is_no_marks_or_is_not_there_is_one_line(tmp_path):
    path = epath.Path(tmp_path / "other.csv")
    with pytest.raises(ValueError, match="does not exist"):
        read_marks(path, RUN)
    path.write_text("id,sha256\n")
    with pytest.raises(ValueError, match="does not begin with run,scale,index,mark"):
        read_marks(path, RUN)
