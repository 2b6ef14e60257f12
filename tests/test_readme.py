import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_python_of_the_readme_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    namespace = {}
    for block in blocks:
        exec(block, namespace)
    assert namespace["images"].shape == namespace["steered"].shape == (16, 32, 32, 1)
    assert "(16, 8, 1, 1)" in capsys.readouterr().out
