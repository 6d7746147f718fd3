"""Hostile study files and overrides: each is refused in a line, within two seconds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dgray.cli.study import main
from tests.cli.hostile import Refused, refused

__all__ = ["refused"]

GOOD = """\
name: small
data: {kind: mixture, name: ring8}
base: {kind: wrong_mixture, std_scale: 1.3}
"""
SEARCH = "search: {method: optuna, num_trials: 5}\n"


def nested_aliases(count: int) -> str:
    lists = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, count)]
    return f"a0: &a0 [{'x, ' * 9}]\n{''.join(lists)}{GOOD}"


def numbers(count: int) -> str:
    return ", ".join(f"{i}.5" for i in range(1, count + 1))


FILES: dict[str, tuple[str | bytes, str]] = {
    "aliases of aliases": (nested_aliases(9), "at most 20,000 values"),
    "alias of itself": ("a: &a {b: *a}\n", "an alias must not contain itself"),
    "10 MB of text": (GOOD + "description: " + "x" * 10**7, "at most 1,000,000 bytes"),
    "10 MB of a comment": ("#" + "x" * 10**7 + "\n" + GOOD, "at most 1,000,000 bytes"),
    "1 MB of values": (GOOD + "fit: {epochs: [" + "1," * 490_000 + "]}", "20,000 values"),
    "4,000 fields": (GOOD + "".join(f"k{i}: 1\n" for i in range(4000)), "unknown field"),
    "1,000 levels of lists": (GOOD + "fit: " + "[" * 1000 + "]" * 1000, "not valid YAML: maximum"),
    "open brackets": (GOOD + "fit: " + "[" * 100_000, "not valid YAML: maximum depth"),
    "1,000 levels of mappings": (GOOD + "fit: " + "{a: " * 1000, "not valid YAML: maximum"),
    "1,000 levels of blocks": ("".join(" " * i + "a:\n" for i in range(1000)), "maximum depth"),
    "levels of keys": ("? " * 1000 + "a\n", "maximum depth"),
    "a list as key": (GOOD + "? [a, b]\n: 1\n", "field names are text, but got a list"),
    "tagged integer": (GOOD + "seed: !!int abc\n", "must be an integer, but got 'abc'"),
    "tagged empty number": (GOOD + "seed: !!float ''\n", "must be a number, but got ''"),
    "tagged truth value": (GOOD + "seed: !!bool abc\n", "must be true or false, but got 'abc'"),
    "tagged null": (GOOD + "seed: !!null abc\n", "must be null, but got 'abc'"),
    "name of Python": (GOOD + "seed: !!python/name:os.system x\n", "must be text, a number"),
    "object of Python": (GOOD + "fit: !!python/object/apply:os.abort []\n", "must be text, a num"),
    "tagged list": (GOOD + "fit: {epochs: !!int [1]}\n", "must be text, a number"),
    "date": (GOOD + "seed: 2020-01-01\n", "must be text, a number"),
    "version of YAML": ("%YAML 1." + "9" * 5000 + "\n---\n" + GOOD, "not valid YAML"),
    "5,000 digits": (GOOD + "seed: " + "9" * 5000, "seed: must be an integer"),
    "5,000 hexadecimal digits": (GOOD + "seed: 0x" + "f" * 5000, "a number must be <= 2^64"),
    "count of 31 digits": (GOOD + "replicates: 1" + "0" * 30, "a number must be <= 2^64"),
    "count of 10 digits": (GOOD + "replicates: 2147483648", "must be <= 1"),
    "count as a float": (GOOD + "replicates: 1e30", "must be an integer"),
    "negative count": (GOOD + "replicates: -1", "must be > 0"),
    "truth value as count": (GOOD + "replicates: true", "must be an integer"),
    "not a number": (GOOD + "fit: {learning_rate: .nan}", "must be finite"),
    "infinity": (GOOD + "diffusion: {sigma_max: .inf}", "must be finite"),
    "more than a float": (GOOD + "diffusion: {sigma_max: 1e400}", "must be finite"),
    "surrogate": (GOOD + 'description: "\\ud800"', "text must be printable"),
    "zero byte as escape": (GOOD + 'description: "\\0"', "text must be printable"),
    "escape sequence": (GOOD + '"\\e[31m": 1', "text must be printable"),
    "no character": (GOOD + 'description: "\\U00110000"', "not valid YAML"),
    "zero byte": (GOOD + "description: a\0b", "special characters are not allowed"),
    "UTF-16": (GOOD.encode("utf-16"), "must be text in UTF-8"),
    "Latin-1": ((GOOD + "description: é").encode("latin-1"), "must be text in UTF-8"),
    "name of 300 characters": (GOOD.replace("small", "a" * 300), "name: must match"),
    "part of 300 characters": (
        GOOD + f"fit: {{objective: {{factory: 'm:f', name: {'f' * 300}}}}}",
        "at most 64 letters",
    ),
    "function of 300 characters": (
        GOOD + f"fit: {{objective: {{factory: 'm:{'f' * 300}'}}}}",
        "must have at most 255 characters",
    ),
    "value of 100,000 characters": (GOOD.replace("ring8", "r" * 100_000), "must be one of"),
    "two documents": (GOOD + "---\n" + GOOD, "another document"),
    "two names": (GOOD + "'name': other\n", "given twice"),
    "list": ("- 1\n", "a study is a mapping"),
    "empty": ("", "required field is missing"),
    "10,001 trials": (GOOD + f"fit: {{learning_rate: [{numbers(10_001)}]}}", "make 10001 trials"),
    "79 million settings": (
        GOOD + f"evaluate: {{guidance_weight: [{numbers(1000)}], num_steps: "
        f"[{', '.join(map(str, range(1, 1000)))}], guidance_interval: [[0.1, 1], null]}}",
        "evaluations of a trial, more than 10000",
    ),
    "a billion rows": (GOOD + "replicates: 1000000000\n", "more than 1000000"),
    "3,000 invalid values": (
        GOOD + f"fit: {{learning_rate: [{', '.join(f'x{i}' for i in range(3000))}]}}",
        "must be a number, but got 'x0'",
    ),
    "9,000 equal values": (
        GOOD + f"fit: {{learning_rate: [{'0.1, ' * 9000}]}}",
        "must not repeat",
    ),
    "choice of 15,000": (
        GOOD + SEARCH + f"fit: {{learning_rate: {{choice: [{numbers(15_000)}]}}}}",
        "a choice must have at most 1000",
    ),
    "too small a step": (
        GOOD + SEARCH + "fit: {learning_rate: {uniform: [1.0e-300, 1.0e+308], step: 1.0e-300}}",
        "step must be at least",
    ),
    "whole domain": (
        GOOD + SEARCH + "fit: {epochs: {int: [1, 9223372036854775807]}}",
        "whole ends",
    ),
    "log that is text": (
        GOOD + SEARCH + "fit: {epochs: {int: [1, 5], log: maybe}}",
        "log must be",
    ),
    "probability of 7": (
        GOOD + "search: {method: optuna, num_trials: 3, sampler: {name: nsga2, arguments: "
        "{mutation_prob: 7}}}\nfit: {learning_rate: {log_uniform: [1.0e-5, 1.0e-2]}}",
        "mutation_prob must be in [0, 1]",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_study_file_is_refused(name: str, tmp_path: Path, refused: Refused) -> None:
    content, message = FILES[name]
    path = tmp_path / "study.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert message in refused(main, str(path), "--plan")


@pytest.mark.parametrize(
    "override",
    [
        "fit.epochs=!!int abc",
        "fit.epochs=" + "9" * 5000,
        "fit.epochs=" + "[" * 1000,
        "fit.epochs=1e30",
        "fit.epochs=true",
        "fit.learning_rate=.nan",
        "a." * 2000 + "b=1",
        "x" * 100_000 + "=1",
        "name=" + "a" * 300,
        'description="\\ud800"',
        "name=\x1b[31m",
        "fit.\x1b=1",
        "\udcff=1",
        "=1",
        "fit.epochs=---\n---",
        "evaluate.metrics=[~]",
        "evaluate.guidance_interval=[true, 2]",
        "fit.objective={name: [a]}",
    ],
    ids=lambda override: override[:20].encode("unicode_escape").decode(),
)
def test_a_hostile_override_is_refused(override: str, tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(GOOD)
    refused(main, str(path), "--plan", "--set", override)


def test_what_is_no_regular_file_is_refused(tmp_path: Path, refused: Refused) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, message in (
        (tmp_path / "pipe", "it must be a regular file, but is a pipe or a device"),
        ("/dev/zero", "it must be a regular file"),
        (tmp_path, "but is a folder"),
        (tmp_path / "loop", "cannot be read"),
        ("x" * 300, "File name too long"),
        (tmp_path / "none\x1b[31m.yaml", "no such file"),
    ):
        assert message in refused(main, str(path), "--plan")


def test_a_study_file_of_windows_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert main([str(path), "--plan"]) == 0


PIECES = [b"&a ", b"*a", b"!!", b"[", b"{", b": ", b"- ", b"\n", b"\t", b"'", b"|", b"<<: "]


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    edits=st.lists(
        st.tuples(
            st.integers(0, len(GOOD) - 1), st.binary(max_size=3) | st.sampled_from(PIECES)
        ),
        min_size=1,
        max_size=4,
    )
)  # fmt: skip
def test_a_mutated_study_file_is_refused_or_valid(
    tmp_path: Path, edits: list[tuple[int, bytes]]
) -> None:
    content = bytearray(GOOD.encode())
    for position, piece in edits:
        content[position : position + 1] = piece
    path = tmp_path / "study.yaml"
    path.write_bytes(content)
    assert main([str(path), "--plan"]) in (0, 2)


FIELDS = ("seed", "fit", "fit.epochs", "fit.objective", "evaluate.guidance_weight", "search",
          "evaluate.guidance_interval", "base.mean_shift", "data.components", "discriminator",
          "evaluate.metrics", "fit.checkpoints", "resources.gpus_per_trial", "name")  # fmt: skip
SCALARS = st.sampled_from(
    ["1", "0", "-1", "1e400", ".nan", "-.inf", "true", "~", "''", "x", "'1'", "9" * 40, "1.5",
     "kl", "calibrated", "!!int x", "2020-01-01", '"\\ud800"', "&a x", "*a"]
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(
            st.sampled_from(["kind", "name", "factory", "arguments", "uniform", "choice", "when"]),
            inner,
            max_size=3,
        ).map(lambda items: "{" + ", ".join(f"{k}: {v}" for k, v in items.items()) + "}")
    ),
    max_leaves=6,
)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(field=st.sampled_from(FIELDS), value=VALUES)
def test_any_value_of_a_field_is_refused_or_valid(tmp_path: Path, field: str, value: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(GOOD)
    assert main([str(path), "--plan", "--set", f"{field}={value}"]) in (0, 2)
