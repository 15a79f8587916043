"""Lines of a requirements.txt that would have an installer fetch, build or read what nobody checked."""

from __future__ import annotations

from tests.hostile.cases import TEST_DATA, Case, Trap, zipped

LINES = {
    "no-binary": "numpy==2.4.6 --no-binary numpy",
    "option": "--no-binary :all:",
    "index": "--index-url https://index.example.com/simple\nnumpy",
    "extra-index": "--extra-index-url=https://index.example.com/simple",
    "editable": "-e git+https://example.com/evil.git#egg=evil",
    "vcs": "evil @ git+https://example.com/evil.git",
    "url": "evil @ https://example.com/evil-1.0-py3-none-any.whl",
    "path": "./evil-1.0-py3-none-any.whl",
    "file-url": "evil @ file:///etc/passwd",
    "include": "-r /etc/passwd",
    "constraint": "-c ../../secrets.txt",
    "find-links": "--find-links /tmp",
    "trusted-host": "--trusted-host example.com",
    "shell": "numpy; touch /tmp/x",
    "substitution": "$(touch /tmp/x)",
    "environment": "evil==${SECRET}",
    "config": "numpy --config-settings=--build-option=x",
    "marker-code": "numpy; __import__('os').system('id')",
    "name": "../evil",
    "null": "numpy\x00evil",
    "many": "\n".join(f"package-{number}" for number in range(300)),
    "long": "numpy" + " " * 100_000,
}


def _make(line: str, trap: Trap) -> tuple[str, bytes]:
    files: dict[str, bytes | str] = {
        "predict.py": "def predict(model, rows):\n    return [0 for _ in rows]\n",
        "requirements.txt": line,
        "test_data.json": TEST_DATA,
    }
    return "model.zip", zipped(files)


CASES = tuple(
    Case(f"requirements-{name}", line[:60], lambda trap, line=line: _make(line, trap), ("contents", "dependencies"))
    for name, line in LINES.items()
)
