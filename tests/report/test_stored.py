import dataclasses
import io
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from etils import epath

from side_jax.report.blocks import Pair, Sheet
from side_jax.report.page import render
from side_jax.report.section import FoundPhoto, Page, Ranked
from side_jax.report.stored import load_page, save_page
from side_jax.runtime.files import AuditError
from tests.report.test_page import FACTS, metrics


@pytest.fixture
def page():
    image = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    photo = (image, "s1/1.pgm", 0.9)
    sheet = Sheet(
        "λ = 0, best", [Pair(7, 7, 0.0, "λ = 0", image, photo, photo), Pair(8, 8, 0.0, "λ = 0", image, photo, None)]
    )
    best = {0.0: {"training": np.linspace(0, 1, 40)}, 5.0: {"training": np.linspace(0, 1, 40)}}
    return Page(metrics(10), FACTS, [sheet], best, None, None, image[None], [FoundPhoto(image, [image])])


def test_a_stored_page_renders_to_the_same_text(page, tmp_path):
    path = epath.Path(tmp_path / "page.zip")
    save_page(page, path)
    assert render(load_page(path)) == render(page)


def test_a_missing_or_damaged_page_is_one_line(page, tmp_path):
    path = epath.Path(tmp_path / "page.zip")
    with pytest.raises(AuditError, match="no finished report"):
        load_page(path)
    save_page(page, path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(AuditError, match="damaged .* --stages=report makes it again"):
        load_page(path)


def test_a_page_of_another_version_is_refused(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("page.json", json.dumps({"version": 99, "page": None}))
    path = epath.Path(tmp_path / "page.zip")
    path.write_bytes(buffer.getvalue())
    with pytest.raises(AuditError, match="of version 99, and this side_jax reads 1"):
        load_page(path)


def test_page_is_made_again_without_jax(page, tmp_path):
    save_page(page, epath.Path(tmp_path / "page.zip"))
    blocked = "".join(f"sys.modules[{name!r}] = None; " for name in ("jax", "jaxlib", "flax", "tensorflow", "orbax"))
    code = (
        f"import sys; {blocked}\n"
        "from etils import epath; from side_jax.report.page import render\n"
        "from side_jax.report.stored import load_page\n"
        f"open({str(tmp_path / 'again.html')!r}, 'w', encoding='utf-8')"
        f".write(render(load_page(epath.Path({str(tmp_path / 'page.zip')!r}))))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == render(page)


def test_every_field_of_a_page_is_stored(page, tmp_path):
    ranked = Ranked({"std": np.linspace(0, 1, 6)}, np.arange(6) % 2 == 0)
    page = dataclasses.replace(page, ranked=(ranked, None), steered=np.zeros((2, 2, 8, 8, 1), np.uint8))
    path = epath.Path(tmp_path / "page.zip")
    save_page(page, path)
    again = load_page(path)
    for field in dataclasses.fields(Page):
        before, after = getattr(page, field.name), getattr(again, field.name)
        np.testing.assert_equal(_plain(after), _plain(before))


def _plain(value):
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
