"""Every statement on random tables is parsed and compared with the rows by brute force.

The expectations are computed from the rows alone, with the formulas of docs/theory.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from dgray.reporting.text.finding import find
from tests.reporting.synthetic import table_of
from tests.reporting.text.random_study import (
    BASE_FD,
    METRICS,
    NAMES,
    SUBJECTS,
    TITLE,
    Case,
    Model,
    adjust,
    p_value,
    random_case,
)


def count(text: str) -> int:
    return 0 if text == "none" else int(text)


def by_weight(text: str | None) -> dict[str, int]:
    parts = re.findall(r"(\d+) at (w = [\d.]+|calibrated weight)", text or "")
    return {weight: int(number) for number, weight in parts}


def number(text: str) -> float:
    return float(text.replace("\N{MINUS SIGN}", "-").replace("+", ""))


def is_written(value: float, text: str) -> bool:
    """Return whether a text is a value rounded to the digits that it shows."""
    shown = text.split(" ± ")[0]
    digits = len(shown.partition(".")[2])
    return abs(number(shown) - value) <= 0.5 * 10.0**-digits * 1.001


def is_p(value: float, text: str) -> bool:
    if text == "not tested":
        return bool(np.isnan(value))
    relation, shown = re.fullmatch(r"adjusted p ([=<]) (\S+)", text).groups()  # type: ignore[union-attr]
    return value < 1e-4 if relation == "<" else bool(np.isclose(value, float(shown), rtol=0.051))


CHANGE = (
    r"(?P<value>\S+(?: ± [^\s,]+)?)(?: nats)?"
    r"(?:, that is (?P<share>\S+)(?: ± \S+)? % of the base's)? "
    r"\((?P<p>adjusted p . [^;)]+)(?:; (?P<spread>[^)]*))?\)"
)


def check_change(m: re.Match[str], model: Model, metric: str) -> None:
    mean = model.mean(metric)
    assert is_written(mean, m["value"])
    assert (m["share"] is not None) == (metric == "fd" and np.isfinite(mean))
    if m["share"] is not None:
        assert is_written(100 * mean / BASE_FD[0], m["share"])


def check_effect(case: Case, m: re.Match[str]) -> None:
    name = next(n for n, subject in SUBJECTS.items() if subject == m["subject"])
    metric = METRICS[m["title"]]
    tested, group = case.tested(metric, objective=name), case.of(metric, objective=name)
    for sign, total, split in ((1, "up", "ups"), (-1, "down", "downs")):
        changed = [x for x in tested if x.sign(metric) == sign]
        assert count(m[total]) == len(changed)
        weights = {x.weight for x in changed}
        assert by_weight(m[split]) == {w: sum(x.weight == w for x in changed) for w in weights}
    assert int(m["n"]) == len(tested)
    rises = [x for x in tested if x.sign(metric) > 0]
    assert (m["which"] == "largest significant rise") == bool(rises)
    largest = max(rises or tested, key=lambda x: x.mean(metric))
    assert case.find(name, m["setting"]) is largest
    check_change(m, largest, metric)
    assert is_p(largest.adjusted[metric], m["p"])
    check_scope(m, group)
    diverged = sum(np.isinf(x.mean(metric)) for x in group)
    assert int(m["diverged"] or 0) == diverged
    assert int(m["left"] or 0) == len(group) - len(tested) - diverged


def check_scope(m: re.Match[str], group: list[Model]) -> None:
    assert set(re.split(", | and ", m["weights"])) == {x.weight for x in group}


def check_untested(case: Case, m: re.Match[str]) -> None:
    name = next(n for n, subject in SUBJECTS.items() if subject == m["subject"])
    metric = METRICS[m["title"]]
    assert not case.tested(metric, objective=name)
    group = case.of(metric, objective=name)
    finite = [x for x in group if np.isfinite(x.mean(metric))]
    means = [x.mean(metric) for x in finite]
    assert int(m["n"]) == len(finite)
    assert np.isclose(number(m["low"]), min(means), rtol=0.006)
    assert np.isclose(number(m["high"]), max(means), rtol=0.006)
    assert case.find(name, m["setting"]).mean(metric) == max(means)
    check_scope(m, group)


def check_lost(case: Case, m: re.Match[str]) -> None:
    name = next(n for n, subject in SUBJECTS.items() if subject == m["subject"])
    metric = METRICS[m["title"]]
    group = case.of(metric, objective=name)
    assert int(m["n"]) == len(group)
    assert not any(np.isfinite(x.mean(metric)) for x in group)
    check_scope(m, group)


def check_calibrated(case: Case, m: re.Match[str]) -> None:
    metric = METRICS[m["title"]]
    tested = case.tested(metric, weight="calibrated weight")
    assert int(m["n"]) == len(tested)
    assert count(m["up"]) == sum(x.sign(metric) > 0 for x in tested)
    assert count(m["down"]) == sum(x.sign(metric) < 0 for x in tested)
    largest = max(tested, key=lambda x: x.mean(metric))
    assert (NAMES[largest.objective], largest.setting) == (m["name"], m["setting"])
    check_change(m, largest, metric)


def check_best(case: Case, m: re.Match[str]) -> None:
    one, other = (
        min((x for x in case.models if x.objective == n), key=lambda x: x.validation)
        for n in ("kl", "cross_entropy")
    )
    assert (m["one"], m["other"]) == (one.setting, other.setting)
    relations = re.findall(
        rf"Its ({TITLE}) (is significantly higher|is significantly lower|does not differ "
        r"significantly|cannot be compared|differs)(?: (?:\(difference|by) (\S+(?: ± \S+)?)"
        r"(?: nats)?(?:,| \()? ?(adjusted p . \S+|not tested)\))?",
        m["relations"],
    )
    is_left_out = one.is_unreliable or other.is_unreliable
    metrics = [k for k in case.metrics if not (k == "kl" and is_left_out)]
    assert sorted(METRICS[title] for title, *_ in relations) == sorted(metrics)
    differences = {k: np.array(one.values[k]) - np.array(other.values[k]) for k in metrics}
    p = adjust(
        [p_value(differences[k], np.hypot(one.errors[k], other.errors[k]), 9.0) for k in metrics]
    )
    for title, relation, value, shown in relations:
        metric = METRICS[title]
        mean, adjusted = float(differences[metric].mean()), p[metrics.index(metric)]
        assert (relation == "cannot be compared") == (not np.isfinite(mean))
        if np.isfinite(mean):
            assert is_p(adjusted, shown)
            assert (relation == "differs") == np.isnan(adjusted)
            assert is_written(mean, value)
        assert ("significantly higher" in relation) == (adjusted < 0.05 and mean > 0)
        assert ("significantly lower" in relation) == (adjusted < 0.05 and mean < 0)


def check_agreement(case: Case, m: re.Match[str]) -> None:
    one, other = METRICS[m["one"]], METRICS[m["other"]]
    both = [x for x in case.of(one) if x in case.of(other)]
    signs = [(x.sign(one), x.sign(other)) for x in both]
    same = sum(a * b > 0 for a, b in signs)
    opposite = sum(a * b < 0 for a, b in signs)
    only = [sum(a != 0 == b for a, b in signs), sum(a == 0 != b for a, b in signs)]
    assert int(m["n"] or m["none"]) == len(both)
    if m["untested"]:
        assert (m["untested"] == "was tested") == all(
            np.isnan([x.adjusted[k] for k in (one, other)]).all() for x in both
        )
    if m["same"] is None:
        assert same == opposite == sum(only) == 0
    else:
        assert [int(m[k]) for k in ("same", "opposite", "only1", "only2")] == [
            same,
            opposite,
            *only,
        ]
        verdict = "disagree in part" if same else "disagree"
        agree = "agree wherever both" if same else "never change significantly together"
        assert m["verdict"].startswith(verdict if opposite else agree)
    if m["example"]:
        example = re.match(
            rf"(?P<name>.+?) at (?P<setting>.+) (?P<verb>raises|lowers) the {m['one']} ",
            m["example"],
        )
        assert example is not None
        name = next(n for n, title in NAMES.items() if title == example["name"])
        model = case.find(name, example["setting"])
        assert model.sign(one) == (1 if example["verb"] == "raises" else -1)
        assert model.sign(one) * model.sign(other) < 0
    if m["rank"]:
        means = [(x.mean(one), x.mean(other)) for x in both]
        means = [pair for pair in means if np.isfinite(pair).all()]
        expected = stats.spearmanr(*zip(*means, strict=True)).statistic
        assert abs(number(m["rank"]) - expected) < 0.0051


def check_diverged(case: Case, m: re.Match[str]) -> None:
    name = next(n for n, subject in SUBJECTS.items() if subject == m["subject"])
    metric = METRICS[m["title"]]
    group = case.of(metric, objective=name)
    numbers = [num_diverged(x.changes(metric), x.own(metric), metric) for x in group]
    assert (int(m["k"]), int(m["n"])) == (sum(n > 0 for n in numbers), len(group))
    cases = re.findall(
        r"at ([^:;]+): (\d+) of (\d+) replicates? diverged(?:, median (\S+), range (\S+) to "
        r"([^\s,;.]+(?:\.\d+)?))?",
        m["cases"],
    )
    assert len(cases) == min(3, int(m["k"]))
    for setting, number_diverged, total, median, low, high in cases:
        model = case.find(name, setting)
        assert int(number_diverged) == numbers[group.index(model)]
        changes = model.changes(metric)
        assert int(total) == len(changes)
        finite = changes[np.isfinite(changes)]
        if median:
            expected = np.median(finite), finite.min(), finite.max()
            shown = [number(x.rstrip(",")) for x in (median, low, high)]
            assert np.allclose(shown, expected, rtol=0.006)


def num_diverged(changes: np.ndarray, own: np.ndarray, metric: str) -> int:
    finite = np.isfinite(changes)
    lost = int((~finite).sum())
    changes, own = changes[finite], own[finite]
    if metric == "fd" or len(changes) < 3:
        return lost
    excess = changes - np.median(changes)
    spread = max(1.4826 * np.median(abs(excess)), np.median(own))
    return lost + int(((excess > max(1.0, 10 * spread)) & (changes > 0)).sum())


def check_limitation(case: Case, m: re.Match[str]) -> None:
    counts = [len(model.values["path_kl"]) for model in case.models]
    assert (int(m["single"]), int(m["n"])) == (counts.count(1), len(counts))


def check_unreliable(case: Case, m: re.Match[str]) -> None:
    assert "kl" in case.metrics
    total = sum(m.is_unreliable for m in case.models)
    assert (int(m["left_out"]), int(m["n"])) == (total, len(case.models))


def check_base(case: Case, m: re.Match[str]) -> None:
    assert m["levels"].startswith("1.00 ± 0.10 nats (path KL)")
    assert ("60.0 ± 2.0 (Fréchet distance)" in m["levels"]) == ("fd" in case.metrics)


SCOPE = r"Weights covered: (?P<weights>[^.]*(?:\.\d+[^.]*)*)\."
CHECKS: dict[str, Callable[[Case, re.Match[str]], None]] = {
    rf"(?P<subject>.+) raises the (?P<title>{TITLE}) significantly in (?P<up>none|\d+) of "
    r"(?P<n>\d+) guided models?(?P<ups> \([^)]*\))? and lowers it in (?P<down>none|\d+)"
    r"(?P<downs> \([^)]*\))?\. The (?P<which>largest significant rise|highest change) is "
    rf"{CHANGE}; (?P<setting>.+)\. {SCOPE}"
    r"(?: (?P<left>\d+) further models? could not be tested\.)?"
    r"(?: (?P<diverged>\d+) further models? diverged\.)?": check_effect,
    rf"(?P<subject>.+) changes the (?P<title>{TITLE}) by (?P<low>\S+) to (?P<high>\S+)(?: nats)? "
    r"in (?P<n>\d+) guided models?, most at (?P<setting>.+?); (?:with one replicate, )?no change "
    r"was tested\. " + SCOPE: check_untested,
    rf"(?P<subject>.+) changes the (?P<title>{TITLE}) by no finite amount in (?P<n>\d+) guided "
    r"models?\. " + SCOPE: check_lost,
    rf"With the calibrated weight the (?P<title>{TITLE}) is significantly above that of the base "
    r"in (?P<up>none|\d+) of (?P<n>\d+) guided models? and below it in (?P<down>none|\d+)\. The "
    rf"highest change is {CHANGE}; (?P<name>[^,]+), (?P<setting>.+)\.": check_calibrated,
    r"The best model of the KL objective \((?P<one>[^)]+)\) is compared with that of "
    r"cross-entropy \((?P<other>[^)]+)\) on the same held-out data, in \d+ pairs of replicates\. "
    r"(?P<relations>.+)": check_best,
    rf"The (?P<one>{TITLE}) and the (?P<other>{TITLE})(?: (?P<verdict>[^:]+): of (?P<n>\d+) "
    r"guided models? at all weights, both change significantly in the same direction in "
    r"(?P<same>\d+) and in opposite directions in (?P<opposite>\d+); only the .+? changes "
    r"significantly in (?P<only1>\d+), only the .+? in (?P<only2>\d+)\.|: no change of either "
    r"(?P<untested>is significant|was tested) in (?P<none>\d+) guided models? at all weights\.)"
    r"(?: For example, (?P<example>.+?\)\S*?)\.)?"
    r"(?: The rank correlation of their mean changes is (?P<rank>\S+)\.)?": check_agreement,
    rf"(?P<subject>.+): replicates diverged in (?P<k>\d+) of (?P<n>\d+) guided models? by their "
    rf"change of the (?P<title>{TITLE}), so that its mean and standard error describe no typical "
    r"replicate: (?P<cases>.+)": check_diverged,
    r"(?P<single>\d+) guided models? of (?P<n>\d+) ha(?:s|ve) one replicate\. .*": (
        check_limitation
    ),
    r"In \d+ of \d+ rows .* Comparisons of kl leave out (?P<left_out>\d+) of (?P<n>\d+) guided "
    r"models? for this reason\.": check_unreliable,
    r"The unguided base differs from the data by (?P<levels>.+)\.": check_base,
}


@pytest.mark.parametrize("seed", range(20))
def test_every_statement_holds_for_the_rows(seed: int) -> None:
    case = random_case(seed)
    order = np.random.default_rng(seed).permutation(len(case.rows))
    finding = find(table_of([case.rows[i] for i in order]))
    assert finding.statements
    for statement in finding.statements:
        matches = [(re.fullmatch(p, statement.text), check) for p, check in CHECKS.items()]
        matches = [(match, check) for match, check in matches if match]
        assert len(matches) == 1, statement.text
        match, check = matches[0]
        assert match is not None
        check(case, match)
    has_fd = "fd" in case.metrics and len(case.metrics) > 1
    first = "agreement of metrics" if has_fd else "effect on the metrics"
    assert finding.statements[0].topic == first
