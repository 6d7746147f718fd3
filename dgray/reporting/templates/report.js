"use strict";
// The interactive part of the report: choices, charts (Vega-Lite) and the table, from one JSON.
// Texts of users are values and text nodes only, never field names, markup or expressions.
const $ = (selector) => document.querySelector(selector);
const data = JSON.parse($("#data").textContent);
const MAX_PANELS = 8, MAX_TABLE_ROWS = 300, MINUS = "\u2212";
const GUIDED = data.objectives.map((o) => !o.isBase);
const rows = data.rows.trial.map((trial, i) => ({
  i, trial, epoch: data.rows.epoch[i], weight: data.rows.weight[i] ?? "calibrated",
  sampler: data.rows.sampler[i], setting: data.rows.setting[i], n: data.rows.n[i],
}));
const metricNamed = (name) => data.metrics.find((m) => m.name === name);
const objectiveOf = (row) => data.objectives[data.trials[row.trial].objective];
const distinct = (values) => [...new Set(values)];
const guided = rows.filter((row) => GUIDED[data.trials[row.trial].objective]);
const byWeight = (a, b) => (a === "calibrated") - (b === "calibrated") || a - b;
const weights = distinct(guided.map((row) => row.weight)).sort(byWeight);
const settings = distinct(guided.map((row) => row.setting));
const trainedRows = guided.filter((row) => objectiveOf(row).isTrained);
const epochs = distinct((trainedRows.length ? trainedRows : rows).map((r) => r.epoch))
  .sort((a, b) => a - b);
const varying = data.axes.map((_, a) => a).filter((a) => data.axes[a].values.length > 1);

// ---- numbers ----------------------------------------------------------------------------------

function fixed(value, digits) {
  const text = value.toFixed(digits);
  return (Number(text) === 0 ? text.replace("-", "") : text).replaceAll("-", MINUS);
}

// To the second digit of the error, to the first of a small one, as in the rest of the report.
function estimate(value, error) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "number") return value === "inf" ? "diverged" : "not a number";
  if (typeof error !== "number") return plain(value);
  if (error < 5e-7) return `${plain(value)} ± ${scientific(error.toPrecision(1))}`;
  if (Math.max(Math.abs(value), error) >= 1e6) return `${plain(value)} ± ${plain(error, 2)}`;
  const first = -Math.floor(Math.log10(error));
  const digits = Math.min(Math.max(first + (error >= 5e-4), 0), 20);
  return `${fixed(value, digits)} ± ${fixed(error, digits)}`;
}

function plain(value, digits = 3) {
  const number = Number(value.toPrecision(digits));
  const isLarge = Math.abs(number) >= 1e6;
  return scientific(isLarge ? number.toExponential() : String(number));
}

// Exponents have two digits, as in the rest of the report.
function scientific(text) {
  return text.replace(/e([+-])(\d)$/, (_, sign, digit) => `e${sign}0${digit}`).replaceAll("-", MINUS);
}

const weightText = (weight) => (weight === "calibrated" ? "calibrated" : `w = ${weight}`);
const valueText = (axis, index) => `${data.axes[axis].name} ${data.axes[axis].values[index]}`;

function trialText(trial) {
  const { objective, values } = data.trials[trial];
  const parts = values.map((v, a) => (v === null ? null : valueText(a, v)));
  return [data.objectives[objective].title, ...parts.filter(Boolean)].join(", ");
}

function rowText(row) {
  const parts = [trialText(row.trial)];
  if (objectiveOf(row).isTrained) parts.push(`epoch ${row.epoch}`);
  if (!objectiveOf(row).isBase) parts.push(weightText(row.weight));
  return [...parts, row.setting].filter(Boolean).join(", ");
}

// ---- state ------------------------------------------------------------------------------------

const numeric = varying.filter((a) => data.axes[a].numbers && !data.axes[a].isData);
const capacity = numeric.find((a) => /width|depth/.test(data.axes[a].name)) ?? numeric[0] ?? -1;
const facetAxis = varying.find((a) => data.axes[a].isData) ?? -1;
const mainWeight = weights.filter((w) => w !== "calibrated")
  .sort((a, b) => Math.abs(a - 1) - Math.abs(b - 1))[0] ?? weights[0];
// Of one trial at least: with a budget each has one checkpoint, at an epoch of its own.
const hasSeveralEpochs = distinct(trainedRows.map((row) => `${row.trial} ${row.epoch}`)).length
  > distinct(trainedRows.map((row) => row.trial)).length;
const state = {
  lens: null, metric: null, weight: mainWeight, setting: settings[0] ?? "", sampler: null,
  objective: -1, facet: facetAxis, facetValue: -1, y: capacity, x: "epoch", hold: {},
  epoch: epochs[epochs.length - 1], trial: null, cloudSampler: null, density: false,
  onlyCell: false, text: "", sort: null, allRows: false,
};
if (!hasSeveralEpochs) {
  const other = numeric.find((a) => a !== state.y);
  state.x = other !== undefined ? `axis ${other}` : "weight";
}
if (data.search) state.x = numeric.length ? `axis ${numeric[0]}` : "epoch";
if (state.facet === state.y || state.x === `axis ${state.facet}`) state.facet = -1;

const defaultMetric = data.metrics.find((m) => m.name === data.headline?.metrics[0] && m.isChange)
  ?? data.metrics.find((m) => m.isChange && m.lens === "path")
  ?? data.metrics.find((m) => m.isChange) ?? data.metrics[0];
if (defaultMetric) { state.lens = defaultMetric.lens; state.metric = defaultMetric.name; }
const hasAllAxes = (row) => data.trials[row.trial].values.filter((v) => v !== null).length;
const firstTrial = data.headline?.trials[0]
  ?? [...guided].sort((a, b) => hasAllAxes(b) - hasAllAxes(a))[0]?.trial ?? rows[0]?.trial ?? null;
state.trial = firstTrial;
for (const a of varying) state.hold[a] = data.trials[firstTrial]?.values[a] ?? 0;

const axisOf = (role) => (String(role).startsWith("axis ") ? Number(role.slice(5)) : -1);
const held = () => (data.search ? [] : varying.filter(
  (a) => a !== state.y && a !== state.facet && a !== axisOf(state.x)));
const checkpoints = new Map();
for (const row of rows) checkpoints.set(row.trial, (checkpoints.get(row.trial) ?? new Set()).add(row.epoch));

// With a budget or early stopping, trials have other epochs: the last checkpoint up to one counts.
function checkpointAt(trial, epoch) {
  return Math.max(...[...(checkpoints.get(trial) ?? [])].filter((e) => e <= epoch));
}

function isAtEpoch(row, epoch) {
  return !objectiveOf(row).isTrained || !hasSeveralEpochs || row.epoch === checkpointAt(row.trial, epoch);
}

function samplerFor(metric) {
  if (!metric.samplers) return null;
  return metric.samplers.includes(state.sampler) ? state.sampler : metric.samplers[0];
}

// Rows with a value of a metric, one per guided model: of the chosen sampler, or of the first.
function withValue(metric, candidates) {
  const sampler = samplerFor(metric), seen = new Set();
  return candidates.filter((row) => {
    if (metric.value[row.i] === null || (sampler && row.sampler !== sampler)) return false;
    const key = [row.trial, row.epoch, row.weight, row.setting].join("|");
    return !seen.has(key) && seen.add(key);
  });
}

function chosen(metric, x, { anyEpoch = x === "epoch", anyWeight = x === "weight" } = {}) {
  return withValue(metric, guided.filter((row) => {
    const { objective, values } = data.trials[row.trial];
    const fits = (a, v) => values[a] === null || v === -1 || values[a] === v;
    if (axisOf(x) >= 0 && values[axisOf(x)] === null) return false;
    return row.setting === state.setting && (anyWeight || row.weight === state.weight)
      && (state.objective === -1 ? !trainedRows.length || objectiveOf(row).isTrained : objective === state.objective)
      && (state.facet === -1 || fits(state.facet, state.facetValue))
      && held().every((a) => fits(a, state.hold[a]))
      && (anyEpoch || isAtEpoch(row, state.epoch));
  }));
}

function baseRow(trial, metric) {
  const base = data.trials[trial].base;
  return withValue(metric, rows.filter((row) => row.trial === base))[0];
}

function selectedRow(metric) {
  return withValue(metric, guided.filter((row) => row.trial === state.trial
    && row.weight === state.weight && row.setting === state.setting
    && isAtEpoch(row, state.epoch)))[0];
}

// ---- charts -----------------------------------------------------------------------------------

const CONFIG = {
  background: "transparent", font: "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
  view: { stroke: null }, concat: { spacing: 24 },
  title: { color: "var(--ink)", fontSize: 13, fontWeight: 600, anchor: "start", offset: 6 },
  axis: { labelColor: "var(--quiet)", titleColor: "var(--quiet)", labelFontSize: 11.5,
    titleFontSize: 12, titleFontWeight: "normal", gridColor: "var(--line)", gridOpacity: 0.7,
    domainColor: "var(--line)", tickColor: "var(--line)", labelLimit: 110 },
  legend: { labelColor: "var(--ink)", titleColor: "var(--quiet)", orient: "bottom",
    labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", labelLimit: 320,
    symbolBaseFillColor: "var(--ink)", symbolBaseStrokeColor: "var(--ink)" },
};
const drawing = new Map();
let pending = 1;  // charts that are being drawn; the first drawing follows the first layout
window.isDrawn = () => pending === 0;

async function draw(id, spec, { renderer = "svg", onClick } = {}) {
  const box = $(`#${id}`);
  const text = JSON.stringify(spec);
  if (drawing.get(id)?.text === text) return;
  const ticket = (drawing.get(id)?.ticket ?? 0) + 1;
  const previous = drawing.get(id)?.result;
  drawing.set(id, { text, ticket, result: previous });
  if (!spec) { box.replaceChildren(); box.textContent = "No values for these choices."; return; }
  box.style.minHeight = `${box.offsetHeight}px`;  // the page does not jump while it is redrawn
  const holder = document.createElement("div");
  pending += 1;
  const result = await vegaEmbed(holder, { config: CONFIG, ...spec }, {
    mode: "vega-lite", actions: false, renderer, ast: true, defaultStyle: false,
    tooltip: { disableDefaultStyle: true },
  }).finally(() => { pending -= 1; });
  if (drawing.get(id).ticket !== ticket) { result.finalize(); return; }  // a later one is drawn
  previous?.finalize();
  drawing.set(id, { text, ticket, result });
  box.replaceChildren(holder);
  box.style.minHeight = "";
  if (onClick) result.view.addEventListener("click", (_, item) => item?.datum && onClick(item.datum));
}

// Panels in as many columns as fit; the width of a panel, without its axis.
function panelSize(id, count, least = 250, axis = 64, group = 1) {
  const width = $(`#${id}`).clientWidth;
  const most = Math.max(1, Math.min(count, 4, Math.floor(width / least)));
  const columns = most >= group ? most - most % group : most;
  return { columns, width: Math.max(90, Math.floor((width - 24 * (columns - 1)) / columns) - axis) };
}

function tooltipOf(metric) {
  const named = { text: metric.title, n: "replicates", sign: "against the base", what: "setting" };
  return Object.entries(named).map(([field, title]) => ({ field: `tip_${field}`, type: "nominal", title }));
}

function record(row, metric, x) {
  const value = metric.value[row.i], error = metric.error?.[row.i] ?? null;
  const sign = metric.sign?.[row.i] ?? 0;
  const number = typeof value === "number" ? value : null;
  const a = axisOf(x), index = a < 0 ? null : data.trials[row.trial].values[a];
  return {
    row: row.i, trial: row.trial, value: number, error, diverged: number === null,
    low: number === null ? null : number - (error ?? 0),
    high: number === null ? null : number + (error ?? 0),
    x: a >= 0 ? (data.axes[a].numbers?.[index] ?? data.axes[a].values[index] ?? "none")
      : x === "weight" ? row.weight : row.epoch,
    line: [data.trials[row.trial].objective, ...data.trials[row.trial].values.map((v, i) => (i === a ? "" : v))].join(" "),
    series: objectiveOf(row).title, sign,
    shade: state.y >= 0 && !data.search ? data.axes[state.y].values[data.trials[row.trial].values[state.y]] ?? "" : "",
    tip_text: `${estimate(value, error)}${metric.unit ? ` ${metric.unit}` : ""}`,
    tip_n: String(row.n), tip_what: rowText(row),
    tip_sign: !metric.sign ? "not tested" : sign ? `significantly ${sign > 0 ? "higher" : "lower"}` : "not significant",
  };
}

function panelsOf(metric, selected) {
  const panels = new Map();
  for (const row of selected) {
    const { objective, values } = data.trials[row.trial];
    const value = state.facet >= 0 ? values[state.facet] : null;
    const parts = [data.objectives[objective].title];
    if (value !== null) parts.push(valueText(state.facet, value));
    const rank = (value ?? -1) * data.objectives.length + objective;
    if (!panels.has(rank)) panels.set(rank, { rank, title: parts, rows: [] });
    panels.get(rank).rows.push(row);
  }
  return [...panels.values()].sort((a, b) => a.rank - b.rank);
}

function capped(panels, note) {
  $(note).textContent = panels.length > MAX_PANELS
    ? `The first ${MAX_PANELS} of ${panels.length} panels are shown; choose an objective or a value of the facet to see the others.` : "";
  return panels.slice(0, MAX_PANELS);
}

const axisTitle = (x) => (axisOf(x) >= 0 ? data.axes[axisOf(x)].name
  : x === "weight" ? "guidance weight" : "epochs");

function xEncoding(x, values) {
  const isNumber = values.every((v) => typeof v === "number");
  const ticks = distinct(values);
  if (!isNumber || ticks.length < 2) {
    const order = x === "weight" ? ticks.sort(byWeight) : undefined;
    return { field: "x", type: "ordinal", title: axisTitle(x), sort: order ?? null,
      axis: { labelAngle: 0 } };
  }
  return { field: "x", type: "quantitative", title: axisTitle(x),
    scale: values.every((v) => v > 0) ? { type: "log", nice: false, padding: 12 } : { nice: false, zero: false, padding: 12 },
    axis: { values: ticks.length < 9 ? ticks : undefined, grid: false, format: "~r", labelOverlap: true } };
}

function yScale(values, title) {
  const sizes = values.filter((v) => typeof v === "number" && v !== 0).map(Math.abs).sort((a, b) => a - b);
  const middle = sizes[Math.floor(sizes.length / 2)] ?? 1;
  const isWide = sizes.length > 2 && sizes[sizes.length - 1] > 40 * middle;
  if (!isWide) return { type: "quantitative", title, axis: { tickCount: 5, labelOverlap: true }, scale: { zero: false } };
  return { type: "quantitative", title,
    axis: { values: symlogTicks(values, middle), format: "~g", labelOverlap: true },
    scale: { type: "symlog", constant: middle, zero: false } };
}

// Ticks of a symlog scale: 0, and at most four powers of ten on each side (Vega's are those of a linear scale).
function symlogTicks(values, constant) {
  const numbers = values.filter((v) => typeof v === "number");
  const powers = (sign) => {
    const high = Math.floor(Math.log10(numbers.reduce((top, v) => Math.max(top, sign * v), 0)));  // -Infinity: none on this side
    const low = Math.ceil(Math.log10(constant)), step = Math.max(1, Math.ceil((high - low + 1) / 4));
    return Array.from({ length: Math.floor((high - low) / step) + 1 }, (_, i) => sign * 10 ** (high - i * step));
  };
  return [...powers(-1), 0, ...powers(1)];
}

const seriesColours = () => ({ domain: data.objectives.map((o) => o.title),
  range: data.objectives.map((_, i) => `var(--series-${i})`) });

// One panel (null without finite values): a line with a band for each group of records, and the base as a dashed rule.
function linePanel({ records, present, colours = seriesColours(), x, title, yTitle, size, base, levels = [], height = 190, detail = "line", dash, dots, hasBands = true, scale }) {
  records = records.filter((r) => r.value !== null);
  if (!records.length) return null;
  const hasShades = records.some((r) => r.shade);
  const order = hasShades ? data.axes[state.y].values : [];
  const everything = [...records, ...(dots ?? []), ...(base === undefined ? [] : [{ value: base }]), ...levels];
  const encoding = {
    x: xEncoding(x, records.map((r) => r.x)),
    color: { field: "series", type: "nominal", title: null,
      scale: colours,
      legend: present ? { values: present, symbolType: "circle", columns: size.width < 320 ? 1 : 0 } : null },
    opacity: order.length > 1 ? { field: "shade", type: "ordinal", sort: order,
      title: data.axes[state.y]?.name ?? null, scale: { domain: order, range: [0.35, 1] } }
      : { value: 1 },
    detail: [{ field: detail }],
    ...(dash ? { strokeDash: { field: "dash", type: "nominal", title: "weight",
      scale: { domain: dash, range: [[1, 0], [5, 3]] } } } : {}),
  };
  const y = { field: "value", ...(scale ?? yScale(everything.map((r) => r.value), yTitle)) };
  const layer = [
    { mark: { type: "area", fillOpacity: hasBands ? 0.15 : 0, clip: true, aria: false },
      encoding: { ...encoding, opacity: { value: 1 }, strokeDash: undefined,
        y: { ...y, field: "low" }, y2: { field: "high" } } },
    { mark: { type: "line", strokeWidth: 2, clip: true }, encoding: { ...encoding, y } },
    { mark: { type: "point", filled: true, size: 55, cursor: "pointer" },
      encoding: { ...encoding, strokeDash: undefined, y, tooltip: tooltips(records),
        description: { field: "tip_all" } } },
  ];
  if (dots?.length) {
    layer.push({ data: { values: dots }, mark: { type: "point", size: 26, strokeWidth: 1.2, opacity: 0.75 },
      encoding: { x: encoding.x, y, color: encoding.color, tooltip: [
        { field: "tip_text", type: "nominal", title: "value" },
        { field: "replicate", type: "quantitative", title: "replicate" }] } });
  }
  if (base !== undefined) {
    layer.push({ data: { values: [{ value: base, tip_text: plain(base) }] },
      mark: { type: "rule", strokeDash: [6, 4], color: "var(--quiet)", strokeWidth: 1.5 },
      encoding: { y, tooltip: [{ field: "tip_text", type: "nominal", title: "unguided base" }] } });
  }
  for (const level of levels) {
    layer.push({ data: { values: [{ value: level.value, tip_text: plain(level.value) }] },
      mark: { type: "rule", strokeDash: level.dash, color: level.colour, strokeWidth: 1.5 },
      encoding: { y, tooltip: [{ field: "tip_text", type: "nominal", title: level.name }] } });
  }
  return { title: { text: title }, width: size.width, height, data: { values: records }, layer };
}

function tooltips(records) {
  const metric = records[0]?.metric ?? "value";
  return [["tip_text", metric], ["tip_n", "replicates"], ["tip_sign", "against the base"],
    ["tip_what", "setting"]].map(([field, title]) => ({ field, type: "nominal", title }));
}

function lineRecords(selected, metric, x) {
  return selected.map((row) => ({ ...record(row, metric, x), metric: metric.title }))
    .map((r) => ({ ...r, tip_all: `${r.metric} ${r.tip_text}; ${r.tip_what}` }));
}

function baseValue(metric, trial) {
  if (metric.isChange && metric.isDistance) return 0;
  const row = baseRow(trial, metric);
  const value = row && metric.value[row.i];
  return typeof value === "number" ? value : undefined;
}

const concat = (panels, columns, shared = false) => (!panels.some(Boolean) ? null : {
  concat: panels.filter(Boolean), columns, resolve: { scale: { y: shared ? "shared" : "independent", x: "independent" } } });

function drawHeadline() {
  const head = data.headline;
  if (!head || !$("#headline")) return;
  const several = hasSeveralEpochs;
  const x = several ? "epoch" : "weight";
  const shown = [head.weight ?? "calibrated", "calibrated"];
  const size = panelSize("headline", head.metrics.length, 215);
  const present = head.series;
  const colours = { domain: head.series, range: head.colours.map((c) => `light-dark(${c}, color-mix(in oklab, ${c} 62%, white))`) };
  const panels = head.metrics.map((name, i) => {
    const metric = metricNamed(name);
    const selected = withValue(metric, guided.filter((row) => head.trials.includes(row.trial)
      && row.setting === head.setting && (!several || shown.includes(row.weight))));
    const records = lineRecords(selected, metric, x).map((r) => ({ ...r, shade: "", series: head.series[head.trials.indexOf(r.trial)],
      dash: several ? weightText(rows[r.row].weight) : "", line: several ? `${r.trial} ${rows[r.row].weight}` : r.trial }));
    const dash = several ? distinct(shown.map(weightText)) : undefined;
    return linePanel({ present, colours, records, x, title: metric.title, yTitle: metric.unit, size, detail: "line",
      base: baseValue(metric, head.trials[0]), levels: head.levels[i], dash: dash?.length > 1 ? dash : undefined, height: 230 });
  });
  draw("headline", concat(panels, size.columns), { onClick: select });
}

// ---- map: the change against the base, on the scale of the base's own value --------------------

function mapScale(metric, selected) {
  const level = metricNamed(metric.level);
  const values = selected.map((row) => metric.value[row.i]).filter((v) => typeof v === "number");
  const base = selected.length ? baseValue(metric, selected[0].trial) : undefined;
  const isDiverging = base !== undefined;
  const ofBase = level?.isDistance && selected.length ? baseValue({ ...level, isChange: false }, selected[0].trial) : undefined;
  const errors = selected.map((row) => metric.error?.[row.i]).filter((e) => typeof e === "number").sort((a, b) => a - b);
  const noise = 8 * (errors[Math.floor(errors.length / 2)] ?? 0);
  const centre = base ?? Math.min(...values);
  const reach = Math.max(...values.map((v) => Math.abs(v - centre)), noise, 1e-12);
  const limit = ofBase > 0 ? ofBase : reach;
  return { centre, isDiverging, limit, ofBase: ofBase > 0 };
}

// Digits of a number of a map: to the first digit of its error.
const mapDigits = (error) => Math.min(Math.max(-Math.floor(Math.log10(error)), 0), 3);

const MAP_DIGIT = 7.5;  // pixels

function cellText(r, width, digits) {
  const text = r.value === null ? "div." : fixed(r.value, digits);
  return text.length * MAP_DIGIT > width ? "" : text;
}

let cells = [];

function drawMap() {
  const metric = metricNamed(state.metric);
  if (!metric) return;
  const selected = chosen(metric, state.x);
  if (data.search) { drawPoints(metric, selected); return; }
  const panels = capped(panelsOf(metric, selected), "#map-note");
  const hasValues = selected.some((row) => typeof metric.value[row.i] === "number");
  $("#map-scale").hidden = !hasValues;
  $("#map-now").textContent = state.x === "epoch" && hasSeveralEpochs ? "Dashed outlines: the epoch of the slider." : "";
  const scale = mapScale(metric, selected);
  const xs = distinct(selected.map((row) => record(row, metric, state.x).x));
  xs.sort(state.x === "weight" ? byWeight : (a, b) => a - b);
  const ys = state.y >= 0 ? data.axes[state.y].values : [""];
  const kinds = distinct(selected.map((row) => data.trials[row.trial].objective)).length;
  const size = panelSize("map", panels.length, Math.min(420, 70 + 66 * xs.length), 58, kinds);
  const isRoomy = size.width / xs.length > 56;
  const flip = metric.better === "higher" ? -1 : 1;
  cells = [];
  const specs = panels.map((panel, p) => {
    const values = lineRecords(panel.rows, metric, state.x).map((r) => {
      const row = rows[r.row];
      const change = r.value === null ? scale.limit : flip * (r.value - scale.centre);
      const strength = Math.min(Math.abs(change) / scale.limit, 1);
      const digits = mapDigits(r.error || scale.limit / 50);
      const cell = { ...r, panel: p, y: r.shade || "none", xi: xs.indexOf(r.x), yi: ys.indexOf(r.shade),
        tone: !scale.isDiverging ? "value" : change > 0 ? "harm" : "gain", strength,
        text: cellText(r, size.width / xs.length, digits), below: isRoomy && r.error > 0 ? `± ${fixed(r.error, digits)}` : "",
        isStrong: strength > 0.65,
        isSelected: row.trial === state.trial && isAtEpoch(row, state.epoch) && row.weight === state.weight,
        isNow: state.x === "epoch" && row.epoch === state.epoch };
      cells.push(cell);
      return cell;
    });
    return mapPanel(panel, values, xs, ys, { ...size, isRoomy });
  });
  if (hasValues) drawScale(metric, scale);
  draw("map", concat(specs, size.columns), { onClick: select });
}

function mapPanel(panel, values, xs, ys, size) {
  const x = { field: "x", type: "ordinal", sort: xs, title: axisTitle(state.x),
    scale: { domain: xs, paddingInner: 0.05 }, axis: { labelAngle: 0, ticks: false, domain: false, format: undefined, labelOverlap: true } };
  const y = { field: "y", type: "ordinal", sort: [...ys].reverse(),
    title: state.y >= 0 ? data.axes[state.y].name : null,
    scale: { paddingInner: 0.08 }, axis: state.y >= 0 ? { ticks: false, domain: false } : null };
  const outline = (test, mark) => ({ transform: [{ filter: test }],
    mark: { type: "rect", fill: null, tooltip: null, aria: false, cursor: "pointer", ...mark }, encoding: { x, y } });
  return {
    title: { text: panel.title.join(", "), limit: size.width + 50 }, width: size.width,
    height: { step: size.isRoomy ? 44 : 34 }, data: { values },
    layer: [
      { mark: { type: "rect", cursor: "pointer", stroke: "var(--line)", strokeWidth: 1, cornerRadius: 2 },
        encoding: { x, y,
          color: { field: "tone", type: "nominal", legend: null,
            scale: { domain: ["gain", "harm", "value"], range: ["var(--gain)", "var(--harm)", "var(--accent)"] } },
          fillOpacity: { field: "strength", type: "quantitative", legend: null,
            scale: { domain: [0, 1], range: [0.02, 1], clamp: true } },
          strokeOpacity: { value: 1 }, tooltip: tooltips(values), description: { field: "tip_all" } } },
      outline("datum.sign != 0", { stroke: "var(--ink)", strokeWidth: 2 }),
      outline("datum.isNow", { stroke: "var(--accent)", strokeWidth: 1.5, strokeDash: [3, 3] }),
      outline("datum.isSelected", { stroke: "var(--accent)", strokeWidth: 4 }),
      ...[["text", 12.5, size.isRoomy ? -6 : 0], ["below", 10, 9]].map(([field, fontSize, dy]) => ({
        mark: { type: "text", fontSize, dy, tooltip: null, aria: false, cursor: "pointer" },
        encoding: { x, y, text: { field },
          color: { condition: { test: "datum.isStrong", value: "var(--paper)" }, value: "var(--ink)" } } })),
    ],
  };
}

function drawScale(metric, scale) {
  const box = $("#map-scale");
  const unit = metric.unit ? ` ${metric.unit}` : "";
  const ends = scale.isDiverging
    ? [scale.centre - scale.limit, scale.centre, scale.centre + scale.limit] : [scale.centre, scale.centre + scale.limit];
  box.className = `scale ${scale.isDiverging ? "diverging" : "sequential"} ${metric.better === "higher" ? "flipped" : ""}`;
  box.querySelector(".ends").replaceChildren(...ends.map((v) => element("span", plain(v) + (v === ends[ends.length - 1] ? unit : ""))));
  const reason = scale.ofBase ? "Full colour: a change as large as the base's own value. "
    : scale.isDiverging ? "Full colour: the largest change, at least eight standard errors. " : "";
  const tested = metric.sign ? ` Solid outlines: significant at a false discovery rate of ${100 * data.level} %.` : "";
  box.querySelector(".words").textContent = `${reason}${scale.isDiverging ? "Green: better than the base; crimson: worse." : ""}${tested}`;
}

// Of a search: each point once, at its last checkpoint up to the chosen epoch.
function drawPoints(metric, selected) {
  const values = lineRecords(selected, metric, state.x).filter((r) => r.value !== null);
  const x = xEncoding(state.x, values.map((r) => r.x));
  const base = selected.length ? baseValue(metric, selected[0].trial) : undefined;
  $("#map-scale").hidden = true;
  const size = panelSize("map", 1, 300);
  cells = values.map((r, i) => ({ ...r, panel: 0, yi: 0, xi: i, isSelected: r.trial === state.trial }))
    .sort((a, b) => (a.x > b.x) - (a.x < b.x)).map((r, i) => ({ ...r, xi: i }));
  const y = { field: "value", ...yScale(values.map((r) => r.value), `${metric.title}${metric.unit ? ` (${metric.unit})` : ""}`) };
  const layer = [{ mark: { type: "point", filled: true, size: 90, cursor: "pointer" },
    encoding: { x, y, color: { field: "series", type: "nominal", title: null, scale: seriesColours(), legend: { values: distinct(values.map((r) => r.series)) } },
      tooltip: tooltips(values), description: { field: "tip_all" } } },
  { transform: [{ filter: "datum.isSelected" }], mark: { type: "point", aria: false, size: 240, strokeWidth: 3, stroke: "var(--accent)" }, encoding: { x, y } }];
  if (base !== undefined) layer.push({ data: { values: [{ value: base }] },
    mark: { type: "rule", strokeDash: [6, 4], color: "var(--quiet)" }, encoding: { y } });
  draw("map", values.length ? { width: size.width, height: 280, data: { values: cells }, layer } : null, { onClick: select });
}

// ---- curves, noise levels, samples -------------------------------------------------------------

function drawCurves() {
  const metric = metricNamed(state.metric);
  if (!metric) return;
  const x = data.search ? "epoch" : state.x;
  const selected = chosen(metric, x);
  const byFacet = new Map();
  for (const panel of panelsOf(metric, selected)) {
    const title = panel.title.slice(1).join(", ");
    byFacet.set(title, [...(byFacet.get(title) ?? []), ...panel.rows]);
  }
  const panels = capped([...byFacet], "#curves-note");
  const size = panelSize("curves", panels.length, 300);
  const present = distinct(selected.map((row) => objectiveOf(row).title));
  const hasBands = selected.length < 60 && Boolean(metric.error);
  const hasBase = panels.some(([, group]) => baseValue(metric, group[0].trial) !== undefined);
  $("#curves-caption").textContent = [
    axisOf(x) >= 0 ? `One line for each combination of the axes other than ${axisTitle(x)}.` : "One line per trial.",
    hasBands ? "Bands: ± 1 standard error." : "", hasBase ? "Grey dashes: the unguided base." : "",
  ].filter(Boolean).join(" ");
  const yTitle = `${metric.title}${metric.unit ? ` (${metric.unit})` : ""}`;
  const scale = yScale(panels.flatMap(([, group]) => group.map((row) => metric.value[row.i])), yTitle);
  const specs = panels.map(([title, group]) => linePanel({ present, scale, records: lineRecords(group, metric, x), x, title: title || metric.title,
    yTitle, size, hasBands, base: baseValue(metric, group[0].trial) }));
  draw("curves", concat(specs, size.columns, true), { onClick: select });
}

function siblings() {
  const own = data.trials[state.trial];
  return data.trials.map((trial, i) => ({ ...trial, i })).filter((trial) => GUIDED[trial.objective]
    && (trial.i === state.trial || (!data.search
      && trial.objective !== own.objective && trial.values.every((v, a) => v === own.values[a] || v === null || own.values[a] === null))));
}

function firstOfObjective(trials) {
  const seen = new Set();
  return trials.sort((a, b) => (b.i === state.trial) - (a.i === state.trial))
    .filter((t) => !seen.has(t.objective) && seen.add(t.objective))
    .sort((a, b) => data.objectives[b.objective].isTrained - data.objectives[a.objective].isTrained || a.objective - b.objective);
}

function drawNoise() {
  if (!data.noise.length) return;
  const compared = firstOfObjective(siblings()).map((trial) => trial.i);
  const panels = [];
  const present = distinct([data.trials[state.trial].base, ...compared].filter((t) => t !== null)
    .map((t) => data.objectives[data.trials[t].objective].title));
  const size = panelSize("noise", data.noise.length, 280);
  for (const column of data.noise) {
    const isWeight = column.name === "calibrated_weights", isLoss = column.name.startsWith("loss");
    const values = [], drawn = new Set();
    for (const row of rows) {
      const line = column.lines[row.i];
      const isBase = objectiveOf(row).isBase && row.trial === data.trials[state.trial].base;
      const fits = compared.includes(row.trial) && row.setting === state.setting && isAtEpoch(row, state.epoch)
        && (isLoss ? !drawn.has(row.trial) : row.weight === (isWeight ? "calibrated" : state.weight));
      if (!line || !(fits || (isBase && column.name !== "loss_train_bins"))) continue;
      drawn.add(row.trial);
      line.x.forEach((x, k) => values.push({ x, value: line.y[k], low: line.y[k] - (line.e?.[k] ?? 0),
        high: line.y[k] + (line.e?.[k] ?? 0), series: objectiveOf(row).title, trial: row.trial, shade: "", row: row.i, metric: column.title,
        tip_text: estimate(line.y[k], line.e?.[k]), tip_n: String(row.n), tip_sign: "not tested",
        tip_what: `${rowText(row)}, sigma ${plain(x)}` }));
    }
    if (values.length) panels.push(noisePanel(column, values, size, present));
  }
  draw("noise", concat(panels, size.columns));
}

function noisePanel(column, values, size, present) {
  const top = Math.max(...values.map((v) => v.value));
  const isLog = column.name === "score_error_bins" && top > 0;
  const bottom = Math.max(Math.min(...values.map((v) => v.value)), top / 1e4);  // an exact score has 1e-12
  if (isLog) for (const v of values) v.low = Math.max(v.low, bottom / 10);
  const panel = linePanel({ present, records: values, x: "epoch", title: column.title, yTitle: column.unit, size, detail: "row" });
  if (!panel) return null;
  const x = { field: "x", type: "quantitative", title: "noise level sigma", scale: { type: "log", nice: false },
    axis: { format: "~r", grid: false, tickCount: 4 } };
  for (const layer of panel.layer) {
    layer.encoding.x = x;
    if (isLog) layer.encoding.y = { ...layer.encoding.y, scale: { type: "log", domain: [bottom, top], clamp: true } };
  }
  panel.layer[2].mark.size = 22;
  return panel;
}

function shownClouds() {
  const all = data.samples.clouds, base = data.trials[state.trial].base;
  const near = firstOfObjective(siblings());
  const related = new Set([base, ...near.map((t) => t.i)]);
  const first = (source, test = () => true) => all.find((c) => c.source === source && related.has(c.trial) && test(c));
  const list = [];
  const add = (cloud, title, colour, pair) => cloud && list.push({ ...cloud, title, colour, pair });
  add(first("data"), "data", "var(--ink)");
  add(first("real"), "training samples", "var(--ink)");
  add(first("base", (c) => c.sampler === state.cloudSampler) ?? first("base"), "base (unguided)", "var(--series-0)");
  for (const trial of near) {
    const own = all.filter((c) => c.trial === trial.i && c.source === "guided" && c.sampler === state.cloudSampler);
    const epochsOf = distinct(own.map((c) => c.epoch));
    const last = checkpointAt(trial.i, state.epoch);
    const epoch = epochsOf.includes(last) ? last : epochsOf.length === 1 ? epochsOf[0] : null;
    for (const weight of distinct(trial.i === state.trial || data.objectives[trial.objective].isTrained ? [state.weight, "calibrated"] : [state.weight])) {
      const isIt = (c) => c.trial === trial.i && c.epoch === epoch && c.sampler === state.cloudSampler
        && (weight === "calibrated" ? c.isCalibrated : c.weight === weight && !c.isCalibrated);
      add(own.find(isIt), `${data.objectives[trial.objective].title}, ${weightText(weight)}`, `var(--series-${trial.objective})`,
        all.find((c) => c.source === "nearest" && isIt(c)));
    }
  }
  return list;
}

function pointsOf(cloud) {
  const bytes = Uint8Array.from(atob(cloud.data), (c) => c.charCodeAt(0));
  const cellsOf = new Uint16Array(bytes.buffer), d = Math.min(cloud.dimension, 2);
  const frame = data.samples.frames[data.trials[cloud.trial].base ?? cloud.trial] ?? Object.values(data.samples.frames)[0];
  const result = [];
  for (let i = 0; i < cellsOf.length; i += d) {
    if (cellsOf[i] === 65535) continue;
    const coordinate = (k) => frame[k][0] + (frame[k][1] - frame[k][0]) * cellsOf[i + k] / 65534;
    result.push(d === 1 ? { x: coordinate(0) } : { x: coordinate(0), y: coordinate(1) });
  }
  return { points: result, frame };
}

function drawSamples() {
  if (!data.samples) return;
  const list = shownClouds();
  const isImages = data.samples.clouds.some((c) => c.format);
  $("#samples-note").textContent = [
    list.some((c) => c.source === "guided") ? "" : "This run holds no samples of the selected model at this checkpoint, weight and sampler.",
    data.samples.leftOut ? `${data.samples.leftOut} sets of samples are not on this page; all are in the run folder.` : "",
    list.some((c) => c.dimension > 2) ? "The first two coordinates." : "",
  ].filter(Boolean).join(" ");
  if (isImages) { $("#samples").replaceChildren(...list.flatMap(imageCards)); return; }
  const size = panelSize("samples", Math.min(list.length, 4), 170, 8);
  const data1 = list.find((c) => c.source === "data");
  const panels = list.map((cloud) => cloudPanel(cloud, data1, size));
  draw("samples", concat(panels, size.columns), { renderer: "canvas" });
}

function cloudPanel(cloud, reference, size) {
  const { points, frame } = pointsOf(cloud);
  const colour = resolved(cloud.colour);
  const lines = [cloud.title, cloud.outside ? `${cloud.outside} of ${cloud.n} outside the frame` : ""].filter(Boolean);
  const view = { title: { text: lines, color: resolved("var(--ink)"), fontSize: 12, limit: size.width }, width: size.width, view: { stroke: resolved("var(--line)") },
    description: `${points.length} samples: ${cloud.title}` };
  const axis = (k) => ({ type: "quantitative", axis: null, scale: { domain: frame[k], nice: false, zero: false } });
  if (cloud.dimension === 1) {
    const bins = { bin: { extent: frame[0], step: (frame[0][1] - frame[0][0]) / 60 }, field: "x" };
    const y = { aggregate: "count", type: "quantitative", axis: null, stack: null };
    const layer = [{ mark: { type: "bar", color: colour, opacity: 0.75, binSpacing: 0 }, encoding: { x: { ...axis(0), ...bins }, y } }];
    if (reference && reference !== cloud) layer.push({ data: { values: pointsOf(reference).points },
      mark: { type: "line", interpolate: "step", color: resolved("var(--ink)"), strokeWidth: 1 }, encoding: { x: { ...axis(0), ...bins }, y } });
    return { ...view, height: 130, data: { values: points }, layer };
  }
  if (state.density) {
    const step = (k) => (frame[k][1] - frame[k][0]) / 36;
    return { ...view, height: size.width, data: { values: points }, mark: { type: "rect" }, encoding: {
      x: { ...axis(0), field: "x", bin: { extent: frame[0], step: step(0) } },
      y: { ...axis(1), field: "y", bin: { extent: frame[1], step: step(1) } },
      color: { value: colour },
      opacity: { aggregate: "count", type: "quantitative", legend: null, scale: { type: "sqrt", domain: [0, points.length / 80], range: [0, 1], clamp: true } } } };
  }
  return { ...view, height: size.width, data: { values: points },
    mark: { type: "point", filled: true, size: 9, color: colour, opacity: 0.55 },
    encoding: { x: { ...axis(0), field: "x" }, y: { ...axis(1), field: "y" } } };
}

// The canvas has no CSS variables.
function resolved(colour) {
  const probe = element("span");
  probe.style.color = colour;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value.startsWith("rgb") ? value : canvasColour(value);
}

function canvasColour(value) {
  const context = document.createElement("canvas").getContext("2d");
  context.fillStyle = value;
  context.fillRect(0, 0, 1, 1);
  const [r, g, b] = context.getImageData(0, 0, 1, 1).data;
  return `rgb(${r}, ${g}, ${b})`;
}

function imageCards(cloud) {
  return [[cloud, cloud.title], [cloud.pair, "nearest training images"]].filter(([c]) => c).map(([c, title]) => {
    const button = element("button");
    const image = element("img");
    image.src = `data:image/${c.format};base64,${c.data}`;
    image.alt = `${c.n} images: ${title}${c === cloud ? "" : ` of ${cloud.title}`}`;
    button.type = "button";
    button.append(image);
    button.addEventListener("click", () => zoom(image, title));
    const card = element("figure");
    card.className = "images";
    card.append(button, element("figcaption", title));
    return card;
  });
}

function zoom(image, title) {
  const dialog = $("#zoom");
  const copy = image.cloneNode();
  dialog.querySelector("div").replaceChildren(copy, element("p", title));
  dialog.showModal();
}

// ---- the selected cell -------------------------------------------------------------------------

function select(datum) {
  if (datum.row === undefined) return;
  const row = rows[datum.row];
  state.trial = row.trial;
  state.weight = row.weight;
  if (objectiveOf(row).isTrained) state.epoch = row.epoch;
  state.onlyCell = true;
  for (const a of held()) state.hold[a] = data.trials[row.trial].values[a] ?? state.hold[a];
  update();
}

function drawCell() {
  const metric = metricNamed(state.metric);
  if (!metric || state.trial === null) return;
  const row = selectedRow(metric) ?? guided.find((r) => r.trial === state.trial && isAtEpoch(r, state.epoch));
  $("#cell-title").textContent = row ? rowText(row) : trialText(state.trial);
  const own = withValue(metric, guided.filter((r) => r.trial === state.trial && r.setting === state.setting));
  const shownAt = [["cell-epochs", "epoch", own.filter((r) => r.weight === state.weight)],
    ["cell-weights", "weight", own.filter((r) => isAtEpoch(r, state.epoch))]];
  for (const [id, x, selected] of shownAt) {
    $(`#${id}`).hidden = distinct(selected.map((r) => (x === "epoch" ? r.epoch : r.weight))).length < 2;
    if ($(`#${id}`).hidden) continue;
    const size = panelSize(id, 1, 200);
    const records = lineRecords(selected, metric, x).map((r) => ({ ...r, shade: "" }));
    const dots = selected.flatMap((r) => (metric.replicates?.[r.i] ?? []).map((value, replicate) => ({
      x: record(r, metric, x).x, value: typeof value === "number" ? value : null, replicate, row: r.i,
      series: objectiveOf(r).title, tip_text: estimate(value) })));
    draw(id, linePanel({ records, dots, x, size, base: baseValue(metric, state.trial),
      title: x === "epoch" ? `against epochs, ${weightText(state.weight)}`
        : `against the guidance weight${row && objectiveOf(row).isTrained ? `, epoch ${row.epoch}` : ""}`,
      yTitle: `${metric.title}${metric.unit ? ` (${metric.unit})` : ""}` }), { onClick: select });
  }
  const trial = data.trials[state.trial];
  const facts = [["trial", trial.id],
    ...trial.values.map((v, a) => [data.axes[a].name, v === null ? "" : data.axes[a].values[v]]).filter(([, v]) => v),
    ["replicates", row ? String(row.n) : ""],
    ...data.metrics.filter((m) => m.isDistance || m.name === state.metric).map((m) => {
      const r = selectedRow(m);
      return [m.title, r ? `${estimate(m.value[r.i], m.error?.[r.i])} ${m.unit}` : ""];
    })].filter(([, v]) => v);
  $("#cell-facts").replaceChildren(...facts.map(([key, value]) => {
    const line = element("tr"), head = element("th", key);
    head.scope = "row";
    line.append(head, element("td", value));
    return line;
  }));
  $("#command").textContent = commandFor(row, trial);
}

function commandFor(row, trial) {
  const parts = [$("#command").dataset.command, "--trial", trial.id];
  if (row && objectiveOf(row).isTrained) parts.push("--epoch", row.epoch);
  if (row) parts.push("--guidance-weight", row.weight);
  return [...parts, "--num-samples", 64, "--out", "samples"].join(" ");
}

// ---- choices -----------------------------------------------------------------------------------

function element(name, text = "") {
  const result = document.createElement(name);
  result.textContent = text;
  return result;
}

function choice(name, title, options, value, set) {
  if (options.length < 2) return [];
  const label = element("label"), select = element("select");
  select.id = `choose-${name}`;
  for (const [key, text] of options) {
    const option = element("option", text);
    option.value = JSON.stringify(key);
    select.append(option);
  }
  select.value = JSON.stringify(value);
  select.addEventListener("change", () => { set(JSON.parse(select.value)); update(); });
  label.append(element("span", title), select);
  return [label];
}

function drawChoices() {
  const metric = metricNamed(state.metric);
  if (!metric) return;
  const focused = document.activeElement?.id;
  const lenses = Object.entries(data.lenses).filter(([key]) => data.metrics.some((m) => m.lens === key));
  const ofLens = data.metrics.filter((m) => m.lens === state.lens).map((m) => [m.name, m.title]);
  const objectives = data.objectives.map((o, i) => [i, o.title]).filter(([i]) => GUIDED[i]);
  const names = varying.map((a) => [a, data.axes[a].name]);
  const xs = [...(hasSeveralEpochs ? [["epoch", "epochs"]] : []), ...(weights.length > 1 ? [["weight", "guidance weight"]] : []),
    ...varying.filter((a) => data.axes[a].numbers || data.axes[a].values.length < 13).map((a) => [`axis ${a}`, data.axes[a].name])];
  const used = [axisOf(state.x)];
  $("#choices").replaceChildren(
    ...choice("lens", "Measured on", lenses, state.lens, (v) => {
      state.lens = v;
      const same = data.metrics.filter((m) => m.lens === v);
      state.metric = (same.find((m) => m.isChange === metric.isChange) ?? same[0]).name;
    }),
    ...choice("metric", "Metric", ofLens, state.metric, (v) => { state.metric = v; }),
    ...choice("objective", "Objective", [[-1, "all"], ...objectives], state.objective, (v) => {
      state.objective = v;
      const own = data.trials.findIndex((t) => t.objective === v);
      if (v >= 0 && data.trials[state.trial].objective !== v) state.trial = siblings().find((t) => t.objective === v)?.i ?? own;
    }),
    ...choice("weight", "Guidance weight", weights.map((w) => [w, w === "calibrated" ? w : String(w)]), state.weight, (v) => { state.weight = v; }),
    ...choice("setting", "Guided at", settings.map((s) => [s, s || "all noise levels"]), state.setting, (v) => { state.setting = v; }),
    ...choice("sampler", "Sampler", (metric.samplers ?? []).map((s) => [s, `${s} steps`]), samplerFor(metric), (v) => { state.sampler = v; }),
    ...choice("x", data.search ? "Horizontal axis" : "Columns", xs, state.x, (v) => {
      state.x = v;
      if (axisOf(v) === state.y && axisOf(v) >= 0) state.y = varying.find((a) => a !== axisOf(v) && a !== state.facet) ?? -1;
      if (axisOf(v) === state.facet && axisOf(v) >= 0) state.facet = -1;
    }),
    ...(data.search ? [] : [
      ...choice("y", "Rows", [[-1, "none"], ...names].filter(([a]) => !used.includes(a) || a === -1), state.y, (v) => {
        state.y = v;
        if (v === state.facet && v >= 0) state.facet = -1;
      }),
      ...choice("facet", "Facet", [[-1, "none"], ...names].filter(([a]) => a === -1 || (!used.includes(a) && a !== state.y)), state.facet,
        (v) => { state.facet = v; state.facetValue = -1; }),
      ...(state.facet < 0 ? [] : choice("facet-value", `Panels of ${data.axes[state.facet].name}`,
        [[-1, "all"], ...data.axes[state.facet].values.map((v, i) => [i, v])], state.facetValue, (v) => { state.facetValue = v; })),
    ]),
    ...held().flatMap((a) => choice(`hold-${a}`, data.axes[a].name, data.axes[a].values.map((v, i) => [i, v]), state.hold[a], (v) => {
      state.hold[a] = v;
      const values = [...data.trials[state.trial].values];
      values[a] = v;
      const moved = data.trials.findIndex((t) => t.objective === data.trials[state.trial].objective && t.values.every((w, k) => w === values[k]));
      if (moved >= 0) state.trial = moved;
    })),
  );
  $("#metric-doc").textContent = metric.doc ? `${metric.title}: ${metric.doc}${metric.unit ? ` (${metric.unit})` : ""}.` : "";
  const slider = $("#epoch");
  slider.max = epochs.length - 1;
  slider.value = epochs.indexOf(state.epoch);
  slider.setAttribute("aria-valuetext", `epoch ${state.epoch}`);
  $("#epoch-text").textContent = state.epoch;
  $("#slider").hidden = !hasSeveralEpochs;
  if (data.samples) {
    const samplers = distinct(data.samples.clouds.filter((c) => c.source === "guided").map((c) => c.sampler));
    state.cloudSampler = samplers.includes(state.cloudSampler) ? state.cloudSampler : samplers[0];
    const isPlane = data.samples.clouds.some((c) => c.dimension > 1);
    $("#sample-choices").replaceChildren(
      ...choice("cloud-sampler", "Sampler of the samples", samplers.map((s) => [s, s]), state.cloudSampler, (v) => { state.cloudSampler = v; }),
      ...(isPlane ? choice("density", "Shown as", [[false, "points"], [true, "density"]], state.density, (v) => { state.density = v; }) : []));
  }
  if (focused?.startsWith("choose-")) document.getElementById(focused)?.focus();
}

// ---- table -------------------------------------------------------------------------------------

const axisColumns = data.axes.map((axis, a) => ({ name: axis.name, isIdentity: true,
  of: (row) => { const v = data.trials[row.trial].values[a]; return v === null ? ["", null] : [axis.values[v], axis.numbers?.[v] ?? axis.values[v]]; } }));
const columns = [
  { name: "objective", isIdentity: true, of: (row) => [objectiveOf(row).name, objectiveOf(row).name] },
  ...axisColumns,
  { name: "epoch", isIdentity: true, of: (row) => [String(row.epoch), row.epoch] },
  { name: "weight", isIdentity: true, of: (row) => [String(row.weight), row.weight === "calibrated" ? 1e9 : row.weight] },
  { name: "sampler", isIdentity: true, of: (row) => [[row.sampler, row.setting].filter(Boolean).join(", "), row.sampler] },
  { name: "replicates", isIdentity: true, of: (row) => [String(row.n), row.n] },
  ...data.metrics.map((m) => ({ name: m.name, title: m.doc + (m.unit ? ` (${m.unit})` : ""),
    of: (row) => [estimate(m.value[row.i], m.error?.[row.i]), m.value[row.i] === "inf" ? Infinity : m.value[row.i]] })),
];
const lines = rows.map((row) => ({ row, name: trialText(row.trial), cells: columns.map((column) => column.of(row)) }));
const table = $("#rows");

// "width 128" matches 128 in the column width; any other word is searched in the whole row.
function conditions(text) {
  const terms = text.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const names = columns.map((column) => (column.isIdentity ? column.name.toLowerCase() : null));
  const result = [];
  for (let i = 0; i < terms.length; i++) {
    const column = names.indexOf(terms[i]);
    const isPair = column >= 0 && i + 1 < terms.length;
    result.push(isPair ? [column, terms[++i]] : [-1, terms[i]]);
  }
  return result;
}

function matches(line, [column, word]) {
  const isText = Number.isNaN(Number(word));
  if (column >= 0) {
    const text = line.cells[column][0].toLowerCase();
    return text === word || (isText && text.startsWith(word));
  }
  return [[line.name], ...line.cells].some(([text]) => text.toLowerCase() === word
    || (isText && word.length > 2 && text.toLowerCase().includes(word)));
}

function compare(a, b) {
  if (a === null || b === null) return (a === null) - (b === null);  // missing values stay last
  const sign = state.sort.isAscending ? 1 : -1;
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return sign * (a < b ? -1 : a > b ? 1 : 0);
}

function drawTable() {
  const filters = conditions(state.text);
  let selected = lines.filter((line) => filters.every((condition) => matches(line, condition)));
  if (state.onlyCell) {
    selected = selected.filter(({ row }) => row.trial === state.trial && isAtEpoch(row, state.epoch));
  }
  if (state.sort) {
    const key = state.sort.column;
    const keyOf = (line) => (key < 0 ? line.name : line.cells[key][1]);
    selected = [...selected].sort((a, b) => compare(keyOf(a), keyOf(b)));
  }
  const shown = state.allRows ? selected : selected.slice(0, MAX_TABLE_ROWS);
  table.tBodies[0].replaceChildren(...shown.map(tableRow));
  $("#count").textContent = `${selected.length} of ${lines.length} rows${shown.length < selected.length ? `, the first ${shown.length} shown` : ""}`;
  $("#all-rows").hidden = shown.length === selected.length;
  $("#only-cell").checked = state.onlyCell;
  [...table.tHead.rows[0].cells].forEach((head, i) => head.setAttribute("aria-sort",
    state.sort?.column !== i - 1 ? "none" : state.sort.isAscending ? "ascending" : "descending"));
}

function tableRow(line) {
  const result = element("tr"), head = element("th"), button = element("button", line.name);
  button.type = "button";
  button.title = "Select this model";
  button.disabled = objectiveOf(line.row).isBase;
  button.addEventListener("click", () => select({ row: line.row.i }));
  head.scope = "row";
  head.append(button);
  result.append(head, ...line.cells.map(([text, key], i) => {
    const cell = element("td", text);
    if (typeof key === "number" || !columns[i].isIdentity) cell.className = "n";
    return cell;
  }));
  return result;
}

function buildTable() {
  const head = element("tr");
  [{ name: "model" }, ...columns].forEach((column, i) => {
    const cell = element("th"), button = element("button", column.name);
    button.type = "button";
    if (column.title) button.title = column.title;
    button.addEventListener("click", () => {
      const isAscending = state.sort?.column === i - 1 ? !state.sort.isAscending : true;
      state.sort = { column: i - 1, isAscending };
      drawTable();
    });
    cell.scope = "col";
    cell.append(button);
    head.append(cell);
  });
  table.tHead.append(head);
}

// ---- start -------------------------------------------------------------------------------------

// A reload, as of the page of a running study, keeps what still exists of the choices.
const KEPT = ["metric", "weight", "setting", "sampler", "density", "onlyCell", "x"];

function remember() {
  const kept = Object.fromEntries(KEPT.map((name) => [name, state[name]]));
  const isLast = state.epoch === epochs[epochs.length - 1];
  try {
    sessionStorage.setItem("dgray-choices", JSON.stringify({ ...kept, epoch: isLast ? null : state.epoch,
      trial: data.trials[state.trial]?.id, objective: data.objectives[state.objective]?.name }));
  } catch { /* sessionStorage is blocked: a reload resets the choices */ }
}

function restore() {
  if (performance.getEntriesByType("navigation")[0]?.type !== "reload") return;
  let kept = {};
  try { kept = JSON.parse(sessionStorage.getItem("dgray-choices")) ?? {}; } catch { return; }
  const metric = metricNamed(kept.metric);
  if (metric) { state.metric = metric.name; state.lens = metric.lens; }
  if (weights.includes(kept.weight)) state.weight = kept.weight;
  if (settings.includes(kept.setting)) state.setting = kept.setting;
  if (epochs.includes(kept.epoch)) state.epoch = kept.epoch;
  if (kept.x === "weight" || kept.x === "epoch") state.x = kept.x;
  state.sampler = kept.sampler;
  state.density = kept.density === true;
  state.onlyCell = kept.onlyCell === true;
  const trial = data.trials.findIndex((t) => t.id === kept.trial);
  if (trial >= 0) {
    state.trial = trial;
    for (const a of varying) state.hold[a] = data.trials[trial].values[a] ?? state.hold[a];
  }
  state.objective = data.objectives.findIndex((o) => o.name === kept.objective);
}

function update() {
  remember();
  drawChoices();
  drawMap();
  drawCurves();
  drawNoise();
  drawSamples();
  drawCell();
  drawTable();
}

// Arrow keys move the selection over the map: within a panel, then to the next one.
function moveSelection(event) {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
  if (!step) return;
  event.preventDefault();
  const now = cells.find((cell) => cell.isSelected) ?? cells[0];
  if (!now) return;
  const width = Math.max(...cells.map((cell) => cell.xi));
  const target = cells.find((c) => c.panel === now.panel && c.xi === now.xi + step[0] && c.yi === now.yi + step[1])
    ?? cells.find((c) => c.panel === now.panel + step[0] && c.yi === now.yi && c.xi === (step[0] > 0 ? 0 : width));
  if (target) select(target);
}

restore();
buildTable();
$("#epoch").addEventListener("input", (event) => { state.epoch = epochs[event.target.value]; update(); });
$("#filter").addEventListener("input", (event) => { state.text = event.target.value; drawTable(); });
$("#only-cell").addEventListener("change", (event) => { state.onlyCell = event.target.checked; drawTable(); });
$("#all-rows").addEventListener("click", () => { state.allRows = true; drawTable(); });
$("#map").addEventListener("keydown", moveSelection);
$("#zoom").addEventListener("click", () => $("#zoom").close());
$("#copy").addEventListener("click", () => navigator.clipboard?.writeText($("#command").textContent));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawSamples);  // a canvas
let width = 0, isFirst = true;
new ResizeObserver(() => {
  if (Math.abs(document.body.clientWidth - width) < 8) return;
  width = document.body.clientWidth;
  drawHeadline();
  update();
  if (isFirst) pending -= 1;
  isFirst = false;
}).observe(document.body);
