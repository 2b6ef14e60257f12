import json
from pathlib import Path

import matplotlib as mpl

ROOT = Path(__file__).parents[1]


def test_notebook_cells_run(monkeypatch, capsys):
    mpl.use("Agg")
    monkeypatch.chdir(ROOT)
    cells = json.loads((ROOT / "notebooks" / "quickstart.ipynb").read_text())["cells"]
    namespace = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), namespace)
    assert namespace["images"].shape == (16, 32, 32, 1)
    assert namespace["trained"].sum() == 200
    assert "UMS:" in capsys.readouterr().out
