"""The JSON Schema of the study file: it accepts what the reader accepts, and finds mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from dgray.cli.main import main
from dgray.config.reading.load import load_study
from dgray.config.study_schema import study_schema
from dgray.errors import StudyError

ROOT = Path(__file__).parents[2]
FIRST_LINE = "# yaml-language-server: $schema="
STUDIES = sorted((ROOT / "studies").glob("*.yaml"))
MINIMAL = "name: a\ndata: {kind: mixture, name: ring8}\nbase: {kind: wrong_mixture}\n"
SEARCH = "search: {method: optuna, num_trials: 2, sampler: tpe, early_stopping: median}\n"


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = study_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def read(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def accepts(folder: Path, text: str) -> bool:
    """Return whether the reader accepts a study."""
    (folder / "study.yaml").write_text(text)
    try:
        load_study(folder / "study.yaml")
    except StudyError:
        return False
    return True


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_shipped_studies_name_the_schema_and_validate(
    path: Path, validator: jsonschema.Draft202012Validator
) -> None:
    text = path.read_text("utf-8")
    place = text.splitlines()[0].removeprefix(FIRST_LINE)
    assert json.loads((path.parent / place).read_text("utf-8")) == validator.schema
    validator.validate(read(text))


def test_the_command_prints_the_schema(
    capsys: pytest.CaptureFixture[str], validator: jsonschema.Draft202012Validator
) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == validator.schema


VALID = [
    "",
    "seed: [0, 1]\nquestion: null\n",
    "discriminator: {width: [16, 64], activation: [silu, tanh]}\n",
    "fit: {objective: [cross_entropy, kl], epochs: [10, 20], checkpoints: [5, 10]}\n",
    "fit: {objective: {factory: 'torch.nn:Module', name: mine, arguments: {a: [1, {}]}}}\n",
    "fit: {objective: [kl, {name: mixed}, {factory: 'math:sqrt'}]}\n",
    "fit: {learning_rate: [1e-3, 1]}\n",
    "evaluate: {guidance_weight: 1, sampler: ode, num_steps: 8, guided_stage: both}\n",
    "evaluate: {guidance_interval: [null, [0.1, 1]], guidance_weight: [0.5, calibrated]}\n",
    "evaluate: {guidance_interval: [0.1, 1], sampler: [ode, {factory: 'math:sqrt'}]}\n",
    "evaluate: {metrics: [kl, {factory: 'math:sqrt', name: root}]}\n",
    "evaluate: {churn: {S_max: .inf, S_churn: 3}, num_noised: null}\n",
    "resources: {gpus_per_trial: 0, device: cpu, trial_time_limit: 10}\n",
    "search: {method: grid}\n",
    f"discriminator: {{width: {{int: [8, 64], log: true}}}}\n{SEARCH}",
    f"fit: {{learning_rate: {{log_uniform: [1e-4, 1e-2]}}}}\n{SEARCH}",
    f"fit: {{objective: {{choice: [kl, mixed]}}}}\nevaluate: {{guidance_weight: "
    f"{{uniform: [0, 2], step: 0.5}}}}\n{SEARCH}",
    "fit: {objective: {choice: [kl, mixed]}, gamma: {uniform: [0.1, 1], when: {fit.objective: "
    "mixed}}}\nsearch: {method: optuna, num_trials: 2, sampler: {name: random, seed: 3}}\n",
    "discriminator: {factory: 'math:sqrt', arguments: {a: 1}}\n",
]


@pytest.mark.parametrize("more", VALID)
def test_what_the_reader_accepts_is_valid(
    more: str, tmp_path: Path, validator: jsonschema.Draft202012Validator
) -> None:
    text = MINIMAL + more
    assert accepts(tmp_path, text)
    validator.validate(read(text))


@pytest.mark.parametrize(
    "data",
    [
        "{kind: mixture, components: {means: [[0, 0], [1, 1]], stds: [1, 1]}, num_real: [10, 20]}",
        "{kind: digits, num_real: [100, 200], flip: [true, false]}",
        "{kind: folder, path: /images, resize: 16, labels: none}",
        "{kind: points, factory: 'math:sqrt', arguments: {a: 1}}",
        "{kind: images, factory: 'math:sqrt'}",
    ],
)
def test_every_kind_of_data_is_valid(
    data: str, validator: jsonschema.Draft202012Validator
) -> None:
    for base in ("{kind: trained, width: [8, 16]}", "{kind: edm, network: a.pkl}"):
        validator.validate(read(f"name: a\ndata: {data}\nbase: {base}\n"))


MISTAKES = [
    "discriminator: {widht: 16}\n",
    "discriminator: {width: '16'}\n",
    "discriminator: {width: -1}\n",
    "discriminator: {kind: cnn}\n",
    "discriminator: {width: []}\n",
    "discriminator: {width: [16, 16]}\n",
    "fit: {objective: cross_entropi}\n",
    "fit: {objective: [kl, cross_entropi]}\n",
    "fit: {objective: {factory: nonsense}}\n",
    "fit: {epochs: 1.5}\n",
    "fit: {dropout: 1.5}\n",
    "fit: {learning_rate: {log_unifrom: [1e-4, 1e-2]}}\n",
    "fit: {learning_rate: {uniform: [1e-4, 1e-2], setp: 1}}\n",
    "evaluate: {sampler: euler}\n",
    "evaluate: {guidance_weight: calibratd}\n",
    "evaluate: {metrics: [fdi]}\n",
    "evaluate: {num_samples: {int: [1, 2]}}\n",
    "search: {method: optuna, num_trials: 2, sampler: tep}\n",
    "search: {num_trials: 2}\n",
    "resources: {device: gpu}\n",
    "resources: {cpus_per_trial: [1, 2]}\n",
    "fits: {}\n",
    "seed: -1\n",
]


@pytest.mark.parametrize("more", MISTAKES)
def test_typical_mistakes_are_invalid(
    more: str, tmp_path: Path, validator: jsonschema.Draft202012Validator
) -> None:
    text = MINIMAL + more
    assert not accepts(tmp_path, text)
    assert not validator.is_valid(read(text))


@pytest.mark.parametrize("missing", ["name", "data", "base"])
def test_required_sections_are_required(
    missing: str, validator: jsonschema.Draft202012Validator
) -> None:
    study = {name: value for name, value in read(MINIMAL).items() if name != missing}
    assert not validator.is_valid(study)
