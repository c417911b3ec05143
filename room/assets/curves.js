// Charts of metrics. Each `figure.curves[data-runs][data-metrics]` is filled with a chart of uPlot: a curve for each run and
// metric. It asks the server for as many columns as it is wide, and says whether it shows every point or the least, the
// most and the mean of columns. All charts of a page share the range and, where it has the form #curves-view, how they are
// drawn; both stand in the address, so that a view can be sent to somebody.

import { get, on } from "/assets/room.js";

const HEIGHT = 280;
const COLOURS = 8;
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3]];
/** Range of x over which the smoothing counts, as in other tools: a thousandth of the run is one value. */
const SMOOTHED_OVER = 1000;

const form = document.getElementById("curves-view");
const charts = new Map();
const address = new URLSearchParams(location.search);
const view = {
    x: ["step", "images", "time"].includes(address.get("x")) ? address.get("x") : "step",
    logx: address.get("logx") === "1",
    y: address.get("y") === "log" ? "log" : "linear",
    smooth: Math.min(0.99, Math.max(0, Number(address.get("smooth")) || 0)),
    marks: address.get("marks") !== "0",
    seeds: address.get("seeds") === "1",
    zoom: range(address.get("range")),
};

function range(text) {
    const [from, to] = (text ?? "").split("..").map(Number);
    return text && Number.isFinite(from) && Number.isFinite(to) && from < to ? [from, to] : null;
}

function remember() {
    const url = new URL(location.href);
    const set = (key, value, usual) => (value === usual ? url.searchParams.delete(key) : url.searchParams.set(key, value));
    set("x", view.x, "step");
    set("logx", view.logx ? "1" : "0", "0");
    set("y", view.y, "linear");
    set("smooth", String(view.smooth), "0");
    set("marks", view.marks ? "1" : "0", "1");
    set("seeds", view.seeds ? "1" : "0", "0");
    set("range", view.zoom ? view.zoom.map((value) => Number(value.toPrecision(8))).join("..") : "", "");
    history.replaceState(history.state, "", url);
}

// ---- Numbers and axes

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 4 });
function number(value) {
    if (value === null || value === undefined) return "";
    const size = Math.abs(value);
    if (size === 0) return "0";
    if (size < 1e-3 || size >= 1e6) return value.toExponential(3).replace(/\.?0+e/, "e").replace("e+", "e");
    return String(Number(value.toPrecision(5)));
}
const count = (value) => value.toLocaleString("en").replaceAll(",", "\u202f");

/** The index of the value of a sorted array that is nearest. */
function nearest(values, wanted) {
    let [low, high] = [0, values.length - 1];
    while (low < high) {
        const middle = (low + high) >> 1;
        if (values[middle] < wanted) low = middle + 1; else high = middle;
    }
    return low > 0 && wanted - values[low - 1] < values[low] - wanted ? low - 1 : low;
}
/** The value between those of two sorted arrays; beyond them that of the end. */
function between(from, to, wanted) {
    if (!from.length) return NaN;
    if (wanted <= from[0]) return to[0];
    if (wanted >= from.at(-1)) return to.at(-1);
    let at = nearest(from, wanted);
    if (from[at] > wanted) at -= 1;
    const share = (wanted - from[at]) / (from[at + 1] - from[at] || 1);
    return to[at] + share * (to[at + 1] - to[at]);
}
/** How a run's steps are drawn across, and back. */
function across(run) {
    if (view.x === "images" && run.batch_size) return [(step) => step * run.batch_size, (x) => x / run.batch_size];
    if (view.x === "time") {
        const hours = run.times.map((time) => (time - run.times[0]) / 3600);
        return [(step) => between(run.steps, hours, step), (x) => between(hours, run.steps, x)];
    }
    return [(step) => step, (x) => x];
}

/** An exponential mean by distance, without the pull of its beginning. */
function smoothed(steps, values, whole) {
    const weight = Math.min(Math.sqrt(view.smooth), 0.999);
    let [sum, weights, last] = [0, 0, null];
    return values.map((value, at) => {
        if (value === null) return null;
        const decay = last === null ? 0 : weight ** (((steps[at] - last) / (whole || 1)) * SMOOTHED_OVER);
        last = steps[at];
        sum = sum * decay + value;
        weights = weights * decay + 1;
        return sum / weights;
    });
}

// ---- From the answer to curves

/** Runs that differ only in their seed become one curve: mean and one standard deviation of their means. */
function bySeed(answer) {
    const groups = new Map();
    const runs = new Map(answer.runs.map((run) => [run.short, run]));
    for (const curve of answer.curves) {
        const run = runs.get(curve.run);
        const key = `${run.group} ${curve.metric}`;
        if (!groups.has(key)) groups.set(key, []);
        groups.get(key).push(curve);
    }
    return [...groups.values()].map((curves) => {
        const run = runs.get(curves[0].run);
        if (curves.length === 1) return { ...curves[0], title: run.name };
        const places = new Map();
        let [points, lost] = [0, 0];
        for (const curve of curves) {
            points += curve.points;
            lost += curve.lost;
            const own = new Map();
            curve.step.forEach((step, at) => {
                const place = Math.floor((step - answer.from) / answer.width);
                const value = (curve.reduced ? curve.mean : curve.value)[at];
                if (value !== null) own.set(place, [...(own.get(place) ?? []), [step, value]]);
            });
            for (const [place, values] of own) {
                const mean = values.reduce((sum, [, value]) => sum + value, 0) / values.length;
                if (!places.has(place)) places.set(place, { step: values[0][0], means: [] });
                places.get(place).means.push(mean);
            }
        }
        const sorted = [...places.entries()].sort((a, b) => a[0] - b[0]).map(([, place]) => place);
        const mean = sorted.map(({ means }) => means.reduce((sum, value) => sum + value, 0) / means.length);
        const deviation = sorted.map(({ means }, at) =>
            (means.length < 2 ? 0 : Math.sqrt(means.reduce((sum, value) => sum + (value - mean[at]) ** 2, 0) / (means.length - 1))));
        return {
            run: curves[0].run, metric: curves[0].metric, seeds: curves.length, reduced: true, points, lost,
            title: `${run.name} (${curves.length} seeds)`,
            step: sorted.map(({ step }) => step), mean,
            min: mean.map((value, at) => value - deviation[at]), max: mean.map((value, at) => value + deviation[at]),
        };
    });
}

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const faint = (colour, share) => {
    const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    return `rgb(${red} ${green} ${blue} / ${share})`;
};
function element(name, properties = {}, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
}

// ---- One chart

class Chart {
    constructor(figure) {
        this.figure = figure;
        this.metrics = figure.dataset.metrics.split(",");
        this.hidden = new Set();
        const title = figure.querySelector("h3")?.textContent ?? figure.dataset.metrics;
        this.place = element("div", { className: "plot", tabIndex: 0 });
        this.place.setAttribute("role", "application");
        this.place.setAttribute("aria-label", `Chart: ${title}. Left and right move the cursor, plus and minus zoom, 0 shows the whole range.`);
        this.legend = element("ul", { className: "curve-legend" });
        this.caption = element("p", { className: "quiet small caption", textContent: "Loading …" });
        figure.querySelector("noscript")?.remove();
        figure.append(this.place, this.legend, this.caption);
        this.place.addEventListener("keydown", (event) => this.key(event));
        new ResizeObserver(() => this.resized()).observe(this.place);
    }

    width() { return Math.max(200, Math.floor(this.place.clientWidth)); }

    resized() {
        if (this.plot && this.plot.width !== this.width()) this.plot.setSize({ width: this.width(), height: HEIGHT });
    }

    /** The steps that the range stands for, with a bit more at both sides. */
    window() {
        if (!view.zoom || !this.answer?.runs.length) return view.zoom && view.x === "step" ? view.zoom : null;
        const [min, max] = view.zoom;
        const more = (max - min) * 0.02;
        const edges = this.answer.runs.map((run) => {
            const [, back] = across(run);
            return [back(min - more), back(max + more)];
        });
        const from = Math.min(...edges.map(([edge]) => edge));
        const to = Math.max(...edges.map(([, edge]) => edge));
        return Number.isFinite(from) && Number.isFinite(to) ? [Math.max(0, from), to] : null;
    }

    async load() {
        if (!this.seen) return;
        this.asking?.abort();
        const asking = (this.asking = new AbortController());
        const question = new URLSearchParams({
            runs: this.figure.dataset.runs,
            metrics: this.figure.dataset.metrics,
            // The same for windows of about the same size, so that they share an answer.
            columns: Math.min(2000, Math.ceil(this.width() / 100) * 100),
        });
        const window = this.window();
        if (window) { question.set("from", Math.floor(window[0])); question.set("to", Math.ceil(window[1])); }
        if (view.marks) question.set("marks", "true");
        if (view.x === "time") question.set("times", "true");
        try {
            const answer = await get(`/api/v1/curves?${question}`, { signal: asking.signal });
            const first = !this.answer;
            this.answer = answer;
            this.draw();
            // Only now it is known which steps the range of the address stands for.
            if (first && view.zoom && view.x !== "step") this.load();
        } catch (error) {
            if (error.name === "AbortError") return;
            this.caption.textContent = this.answer
                ? `Not up to date: ${error.message}` : `No curves: ${error.message}`;
        }
    }

    /** What is drawn of the answer: for each curve its label, colours and the values above x. */
    curves() {
        const runs = new Map(this.answer.runs.map((run, at) => [run.short, { ...run, at, across: across(run)[0] }]));
        const several = new Set(this.answer.curves.map((curve) => curve.run)).size > 1;
        const named = view.seeds ? bySeed(this.answer) : this.answer.curves;
        const metrics = [...new Set(named.map((curve) => curve.metric))];
        const same = new Map();
        for (const run of this.answer.runs) same.set(run.name, (same.get(run.name) ?? 0) + 1);
        return named.map((curve, at) => {
            const run = runs.get(curve.run);
            const name = curve.title ?? (same.get(run.name) > 1 ? `${run.name} ${run.short}` : run.name);
            const place = several ? run.at : metrics.indexOf(curve.metric);
            const other = several ? metrics.indexOf(curve.metric) : 0;
            const label = !several ? curve.metric : metrics.length > 1 ? `${name} · ${curve.metric}` : name;
            const positive = (value) => (view.y === "log" && value !== null && value <= 0 ? null : value);
            const middle = (curve.reduced ? curve.mean : curve.value).map(positive);
            return {
                key: `${curve.run} ${curve.metric}`, label, curve, at,
                colour: style(`--c${(place % COLOURS) + 1}`),
                dash: DASHES[(Math.floor(place / COLOURS) + other) % DASHES.length],
                x: curve.step.map(run.across),
                middle,
                least: curve.reduced ? curve.min.map(positive) : null,
                most: curve.reduced ? curve.max.map(positive) : null,
                smooth: view.smooth > 0 ? smoothed(curve.step, middle, run.last_step) : null,
            };
        }).map((one) => this.sorted(one));
    }

    /** Times can stand still, and x must rise; on a logarithmic axis it begins above 0. */
    sorted(one) {
        const keep = [];
        let last = view.logx ? 0 : -Infinity;
        one.x.forEach((x, at) => { if (x > last) { keep.push(at); last = x; } });
        if (keep.length === one.x.length) return one;
        for (const name of ["x", "middle", "least", "most", "smooth"]) one[name] = one[name] && keep.map((at) => one[name][at]);
        return one;
    }

    draw() {
        const curves = (this.drawn = this.curves());
        const series = [{}];
        const bands = [];
        const tables = [];
        for (const one of curves) {
            const table = [one.x];
            const width = curves.length > 12 ? 1 : 1.5;
            const shape = { spanGaps: false, points: { show: one.x.length < 40 && !one.least } };
            one.series = [];
            const add = (values, properties) => {
                one.series.push(series.length);
                series.push({ ...shape, show: !this.hidden.has(one.key), ...properties });
                table.push(values);
            };
            if (one.least) {
                const edge = { stroke: "transparent", width: 0, points: { show: false } };
                add(one.most, edge);
                add(one.least, edge);
                bands.push({ series: [series.length - 2, series.length - 1], fill: faint(one.colour, 0.22) });
            }
            const below = one.smooth ? faint(one.colour, 0.4) : one.colour;
            add(one.middle, { stroke: below, width: one.smooth ? 1 : width, dash: one.dash });
            if (one.smooth) add(one.smooth, { stroke: one.colour, width: width + 0.5, dash: one.dash, points: { show: false } });
            tables.push(table);
        }
        const data = tables.length ? uPlot.join(tables) : [[]];
        const signature = JSON.stringify([view.x, view.logx, view.y, curves.map((one) => [one.key, one.colour, one.series, !!one.least, one.label, one.x.length < 40])]);
        if (this.plot && signature === this.signature) {
            this.plot.setData(data);
        } else {
            const cursor = this.plot?.cursor.left;
            this.plot?.destroy();
            this.signature = signature;
            this.plot = new uPlot(this.options(series, bands), data, this.place);
            if (cursor >= 0) this.plot.setCursor({ left: cursor, top: 10 });
            this.list();
        }
        this.say();
        this.values();
    }

    options(series, bands) {
        const axis = { stroke: style("--quiet"), grid: { stroke: style("--line"), width: 1 }, ticks: { stroke: style("--line"), width: 1 }, font: "12px system-ui, sans-serif" };
        const unit = { step: "step", images: "images", time: "hours since the start" }[view.x];
        return {
            width: this.width(), height: HEIGHT, series, bands,
            legend: { show: false },
            scales: {
                x: {
                    time: false, distr: view.logx ? 3 : 1,
                    range: (_, min, max) => view.zoom ?? (min === max ? [min - 0.5, max + 0.5] : [min ?? 0, max ?? 1]),
                },
                y: { distr: view.y === "log" ? 3 : 1 },
            },
            axes: [
                { ...axis, size: 46, label: unit, labelSize: 16, labelFont: axis.font, labelGap: 0, space: 60, values: (_, values) => values.map((value) => (value === null ? "" : compact.format(value))) },
                { ...axis, size: 62, values: (_, values) => values.map(number) },
            ],
            cursor: {
                drag: { x: true, y: false, setScale: false },
                sync: { key: "curves", setSeries: false, filters: { pub: (type) => type === "mousemove" || type === "mouseleave" } },
                bind: { dblclick: () => () => { zoom(null); return null; } },
                points: { show: false },
            },
            hooks: {
                setCursor: [() => this.values()],
                setSelect: [(plot) => {
                    const { left, width } = plot.select;
                    if (width < 4) return;
                    zoom([plot.posToVal(left, "x"), plot.posToVal(left + width, "x")]);
                    plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
                }],
                draw: [(plot) => this.marks(plot)],
            },
        };
    }

    /** Lines at restarts and rewinds, short ones below at checkpoints. */
    marks(plot) {
        if (!view.marks || !this.answer?.marks.length) return;
        const runs = new Map(this.answer.runs.map((run, at) => [run.short, { at, across: across(run)[0] }]));
        const several = this.answer.runs.length > 1;
        const { ctx, bbox } = plot;
        const scale = devicePixelRatio || 1;
        ctx.save();
        for (const mark of this.answer.marks) {
            const run = runs.get(mark.run);
            const x = Math.round(plot.valToPos(run.across(mark.step), "x", true)) + 0.5;
            if (!(x >= bbox.left && x <= bbox.left + bbox.width)) continue;
            const usual = { restart: style("--quiet"), rewind: style("--bad"), checkpoint: style("--good") }[mark.kind];
            ctx.strokeStyle = several ? style(`--c${(run.at % COLOURS) + 1}`) : usual;
            ctx.lineWidth = scale * (mark.kind === "checkpoint" ? 1.5 : 1);
            ctx.setLineDash({ restart: [5 * scale, 4 * scale], rewind: [1.5 * scale, 2.5 * scale], checkpoint: [] }[mark.kind]);
            ctx.beginPath();
            ctx.moveTo(x, mark.kind === "checkpoint" ? bbox.top + bbox.height - 7 * scale : bbox.top);
            ctx.lineTo(x, bbox.top + bbox.height);
            ctx.stroke();
        }
        ctx.restore();
    }

    list() {
        this.legend.replaceChildren(...this.drawn.map((one) => {
            const swatch = element("span", { className: "swatch" });
            swatch.style.borderTopColor = one.colour;
            if (one.dash.length) swatch.style.borderTopStyle = "dashed";
            const button = element("button", { type: "button", title: "Show or hide this curve" }, swatch, element("span", { className: "cut", textContent: one.label }));
            button.setAttribute("aria-pressed", String(!this.hidden.has(one.key)));
            button.addEventListener("click", () => {
                if (!this.hidden.delete(one.key)) this.hidden.add(one.key);
                button.setAttribute("aria-pressed", String(!this.hidden.has(one.key)));
                const now = this.drawn.find((drawn) => drawn.key === one.key);
                now?.series.forEach((at) => this.plot.setSeries(at, { show: !this.hidden.has(one.key) }));
            });
            return element("li", {}, button, element("output", { className: "number" }));
        }));
    }

    /** The values below the cursor, or the last ones. */
    values() {
        const left = this.plot?.cursor.left ?? -1;
        const x = left >= 0 ? this.plot.posToVal(left, "x") : Infinity;
        this.drawn?.forEach((one, at) => {
            const output = this.legend.children[at]?.querySelector("output");
            if (!output || !one.x.length) return;
            const place = x === Infinity ? one.x.length - 1 : nearest(one.x, x);
            const value = one.middle[place];
            const step = one.curve.step[place];
            const spread = !one.least || one.least[place] === null || one.least[place] === one.most[place] ? ""
                : one.curve.seeds ? ` ± ${number(one.most[place] - value)}` : ` (${number(one.least[place])} to ${number(one.most[place])})`;
            const smooth = one.smooth && one.smooth[place] !== null ? `, smoothed ${number(one.smooth[place])}` : "";
            output.textContent = `${value === null ? "no finite value" : number(value)}${spread}${smooth} at ${count(step)}`;
        });
    }

    /** Whether every point is shown, and what is left out. */
    say() {
        const all = this.answer.curves;
        if (!all.length) {
            this.caption.textContent = view.zoom ? "No points in this range." : `No points of ${this.metrics.join(", ")} yet.`;
            return;
        }
        const points = all.reduce((sum, curve) => sum + curve.points, 0);
        const lost = all.reduce((sum, curve) => sum + curve.lost, 0);
        const reduced = all.filter((curve) => curve.reduced);
        const said = [];
        if (!reduced.length) said.push(`Every point is drawn: ${count(points)}.`);
        else {
            const columns = Math.max(...reduced.map((curve) => curve.step.length));
            said.push(`${count(points)} points as ${count(columns)} columns: the band goes from the least to the most of each, the line is the mean. Zoom in for every point.`);
        }
        if (view.seeds && this.drawn.some((one) => one.curve.seeds)) said.push("Seeds are put together: the line is their mean, the band one standard deviation.");
        if (lost) said.push(`${count(lost)} ${lost === 1 ? "value is" : "values are"} not finite (NaN or infinite): left out as gaps.`);
        if (view.y === "log" && all.some((curve) => (curve.reduced ? curve.min : curve.value).some((value) => value !== null && value <= 0))) said.push("Values of 0 and below have no place on a logarithmic axis.");
        if (view.x === "images" && this.answer.runs.some((run) => !run.batch_size)) said.push("Runs whose batch size is not known are drawn by step.");
        const kinds = new Set(view.marks ? this.answer.marks.map((mark) => mark.kind) : []);
        const lines = [["restart", "dashed: a restart"], ["rewind", "dotted: a rewind after a lost loss"], ["checkpoint", "ticks: checkpoints"]].filter(([kind]) => kinds.has(kind));
        if (lines.length) said.push(`Lines: ${lines.map(([, text]) => text).join("; ")}.`);
        this.caption.textContent = said.join(" ");
    }

    key(event) {
        const plot = this.plot;
        if (!plot || event.ctrlKey || event.metaKey || event.altKey) return;
        const [min, max] = [plot.scales.x.min, plot.scales.x.max];
        const size = max - min;
        const width = plot.over.clientWidth;
        const cursor = plot.cursor.left >= 0 ? plot.cursor.left : width;
        const back = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (back && event.shiftKey) zoom([min + back * size * 0.25, max + back * size * 0.25]);
        else if (back) plot.setCursor({ left: Math.min(width, Math.max(0, cursor + back * Math.max(1, width / 100))), top: 10 });
        else if (event.key === "+" || event.key === "=") {
            const middle = plot.cursor.left >= 0 ? plot.posToVal(plot.cursor.left, "x") : (min + max) / 2;
            zoom([middle - size / 4, middle + size / 4]);
        } else if (event.key === "-" || event.key === "_") zoom([min - size / 2, max + size / 2]);
        else if (event.key === "0" || event.key === "Home") zoom(null);
        else return;
        event.preventDefault();
    }
}

// ---- All charts

/** Shows this range of x in all charts, or the whole. */
function zoom(wanted) {
    view.zoom = wanted && wanted[0] < wanted[1] ? wanted : null;
    changed(true);
}
let waiting;
function changed(ask) {
    remember();
    fill();
    for (const chart of charts.values()) if (chart.answer) chart.draw();
    if (!ask) return;
    clearTimeout(waiting);
    waiting = setTimeout(reload, 120);
}
function reload() {
    for (const chart of charts.values()) chart.load();
}

/** The form as the view has it. */
function fill() {
    if (!form) return;
    const { x, y, logx, smooth, marks, seeds, reset, smoothing } = form.elements;
    [x.value, y.value, logx.checked, smooth.value, marks.checked, seeds.checked] = [view.x, view.y, view.logx, view.smooth, view.marks, view.seeds];
    reset.disabled = !view.zoom;
    smoothing.value = String(view.smooth);
}
form?.addEventListener("submit", (event) => event.preventDefault());
form?.addEventListener("input", () => {
    const { x, y, logx, smooth, marks, seeds } = form.elements;
    if (x.value !== view.x) view.zoom = null;
    const ask = x.value !== view.x || marks.checked !== view.marks;
    Object.assign(view, { x: x.value, y: y.value, logx: logx.checked, smooth: Number(smooth.value), marks: marks.checked, seeds: seeds.checked });
    changed(ask);
});
form?.elements.reset.addEventListener("click", () => zoom(null));

/** Charts are loaded once they come into view; parts of a page that are refreshed may bring new ones. */
const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
        const chart = charts.get(target);
        if (!chart) continue;
        const before = chart.seen;
        chart.seen = isIntersecting;
        if (isIntersecting && !before) chart.load();
    }
}, { rootMargin: "200px" });
function attach() {
    for (const [figure, chart] of charts) {
        if (!figure.isConnected) { chart.plot?.destroy(); charts.delete(figure); }
    }
    for (const figure of document.querySelectorAll(".curves[data-runs]")) {
        if (charts.has(figure)) continue;
        charts.set(figure, new Chart(figure));
        seen.observe(figure);
    }
}

on("tick", () => {
    if (document.hidden) return;
    for (const chart of charts.values()) {
        if (!chart.answer || chart.answer.runs.some((run) => run.state === "running")) chart.load();
    }
});
on("jobs", () => { if (!document.hidden) reload(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) reload(); });
document.addEventListener("refreshed", attach);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const chart of charts.values()) if (chart.answer) { chart.signature = ""; chart.draw(); }
});
fill();
attach();
