"""Test that no module of dgray executes the content of a file (pickles, unsafe YAML, ``eval``).

The source code is examined, so calls are detected that no test executes. SECURITY.md describes the
limits of this test.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "dgray"
# Modules that load code or objects from bytes (pickletools only reads).
FORBIDDEN_MODULES = {
    "_pickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "ray.cloudpickle", "shelve",
    "yaml",
}  # fmt: skip
HARMLESS_NAMES = {("pickle", "UnpicklingError")}  # an exception of torch.load
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.hub.load",
    "pd.read_pickle", "pandas.read_pickle", "torch.package.PackageImporter",
    "subprocess.getoutput", "tune.Tuner.restore", "Tuner.restore",
}  # fmt: skip
MAY_PICKLE = {  # between a study and its own processes
    "engine/tune_schedule.py",
    "problem/part_process.py",
    "problem/part_worker.py",
}
# Here the author of a study names code that is run; see SECURITY.md.
MAY_IMPORT_BY_NAME = {
    "__init__.py",
    "cli/main.py",
    "catalogue/spec.py",
    "metrics/features/custom.py",
}
MAY_LOAD_TORCHSCRIPT = {"discriminator/trunk.py", "metrics/features/inception.py"}


def unsafe(source: str, module: str) -> Iterator[str]:
    """Yield operations in a module's source that could execute a file, as ``line: operation``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in FORBIDDEN_MODULES and module not in MAY_PICKLE:
                    yield f"{node.lineno}: import {alias.name}"
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                is_harmless = (node.module, alias.name) in HARMLESS_NAMES
                if node.module in FORBIDDEN_MODULES and not is_harmless:
                    yield f"{node.lineno}: from {node.module} import {alias.name}"
        elif isinstance(node, ast.Call):
            yield from _unsafe_call(node, ast.unparse(node.func), module)


def _unsafe_call(call: ast.Call, name: str, module: str) -> Iterator[str]:
    arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name in FORBIDDEN_CALLS:
        yield f"{call.lineno}: {name}"
    elif name == "torch.load" and arguments.get("weights_only") != "True":
        yield f"{call.lineno}: torch.load without weights_only=True"
    elif name in ("np.load", "numpy.load") and arguments.get("allow_pickle", "False") != "False":
        yield f"{call.lineno}: {name} with allow_pickle"
    elif name == "YAML" and arguments.get("typ") != "'safe'":
        yield f"{call.lineno}: YAML without typ='safe'"
    elif name.endswith(".from_pretrained") and arguments.get("use_safetensors") != "True":
        yield f"{call.lineno}: from_pretrained without use_safetensors=True"
    elif name == "torch.jit.load" and module not in MAY_LOAD_TORCHSCRIPT:
        yield f"{call.lineno}: torch.jit.load"
    elif name.endswith("import_module") and module not in MAY_IMPORT_BY_NAME:
        yield f"{call.lineno}: {name}"
    if arguments.get("shell", "False") != "False":
        yield f"{call.lineno}: {name} through a shell"


def modules() -> list[str]:
    return sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("module", modules())
def test_modules_execute_no_file(module: str) -> None:
    assert list(unsafe((PACKAGE / module).read_text("utf-8"), module)) == []


def test_the_exceptions_are_still_needed() -> None:
    for module in MAY_PICKLE | MAY_IMPORT_BY_NAME | MAY_LOAD_TORCHSCRIPT:
        assert list(unsafe((PACKAGE / module).read_text("utf-8"), "elsewhere.py")), module


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import cloudpickle as pickle",
        "from pickle import loads",
        "from pickle import UnpicklingError, load",
        "import yaml",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "YAML()",
        "YAML(typ='unsafe')",
        "Model.from_pretrained(folder)",
        "torch.jit.load(path)",
        "importlib.import_module(name)",
        "eval(text)",
        "exec(text)",
        "pd.read_pickle(path)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_lines_that_could_execute_a_file_are_reported(line: str) -> None:
    assert len(list(unsafe(line, "some.py"))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "import pickletools",
        "from pickle import UnpicklingError",
        "torch.load(path, map_location='cpu', weights_only=True)",
        "np.load(path)",
        "np.load(path, allow_pickle=False)",
        "YAML(typ='safe', pure=True)",
        "safetensors.torch.load(content)",
        "network.eval()",
        "subprocess.run(['git', 'status'])",
    ],
)
def test_safe_lines_are_not_reported(line: str) -> None:
    assert list(unsafe(line, "some.py")) == []
