//
// figures.mjs - medians, pairs, and the table
//

export function median(values) {
    const sorted = [...values].sort((a, b) => a - b);
    const middle = sorted.length >> 1;
    return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// Around the median of paired ratios: from the second smallest to the second
// largest (of 7 pairs: holds the true median in 88 % of cases, of 9 in 96 %).
export function interval(values) {
    const sorted = [...values].sort((a, b) => a - b);
    const cut = sorted.length >= 7 ? 1 : 0;
    return [sorted[cut], sorted.at(-1 - cut)];
}

// Runs each of several things in turn, again and again: A, B, A, B, …; this
// machine's moods then meet all alike.  Resolves to an array of results for each.
export async function interleaved(rounds, ...runs) {
    const results = runs.map(() => []);
    for (let round = 0; round < rounds; round++)
        for (const [i, run] of runs.entries()) results[i].push(await run(round));
    return results;
}

export const ratios = (of, to) => of.map((value, i) => value / to[i]);

function digits(value) {
    const size = Math.abs(value);
    if (size >= 1000) return Math.round(value).toLocaleString("en-US");
    if (size >= 100) return value.toFixed(0);
    if (size >= 10) return value.toFixed(1);
    if (size >= 1) return value.toFixed(2);
    return value === 0 ? "0" : value.toFixed(3);
}

// A line of the report.  With a bar ("≥ 0.8" or "≤ 64") what it is compared
// with is the ratio, or the value where there is none.
export function line(scenario, what, unit, values, { ratio, bar } = {}) {
    const result = { scenario, what, unit, values, median: median(values), min: Math.min(...values), max: Math.max(...values) };
    if (ratio !== undefined) {
        result.ratios = ratio;
        result.ratio = median(ratio);
        result.interval = interval(ratio);
    }
    if (bar !== undefined) {
        const [, sign, limit] = bar.match(/^([≥≤]) ([\d.]+)/);
        const judged = ratio === undefined ? result.median : result.ratio;
        result.bar = bar;
        result.ok = sign === "≥" ? judged >= Number(limit) : judged <= Number(limit);
    }
    return result;
}

export function format({ median: middle, min, max, values }) {
    return values.length > 1 ? `${digits(middle)} [${digits(min)}–${digits(max)}]` : digits(middle);
}

function columns(rows, rightAligned) {
    const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => [...row[i]].length)));
    const pad = (text, i) => {
        const space = " ".repeat(widths[i] - [...text].length);
        return rightAligned.has(i) ? space + text : text + space;
    };
    return rows.map((row) => row.map(pad).join("  ").trimEnd()).join("\n");
}

export function table(lines) {
    const rows = [["scenario", "what", "median [min–max]", "unit", "ratio [interval]", "bar", ""]];
    let last = "";
    for (const l of lines) {
        const ratio = l.ratio === undefined ? ""
            : l.ratios.length > 1 ? `${l.ratio.toFixed(2)} [${l.interval.map((x) => x.toFixed(2)).join("–")}]` : l.ratio.toFixed(2);
        rows.push([l.scenario === last ? "" : l.scenario, l.what, format(l), l.unit, ratio, l.bar ?? "",
            l.ok === undefined ? "" : l.ok ? "ok" : "below"]);
        last = l.scenario;
    }
    rows.splice(1, 0, rows[0].map((heading, i) => "─".repeat(Math.max(...rows.map((row) => [...row[i]].length)))));
    return columns(rows, new Set([2]));
}

export function comparison(a, b) {
    const rows = [["scenario", "what", "A", "B", "unit", "B / A"]];
    const key = (l) => `${l.scenario}\t${l.what}`;
    const ofB = new Map(b.lines.map((l) => [key(l), l]));
    let last = "";
    for (const l of a.lines) {
        const other = ofB.get(key(l));
        if (other === undefined) continue;
        rows.push([l.scenario === last ? "" : l.scenario, l.what, format(l), format(other), l.unit,
            l.median === 0 ? "" : (other.median / l.median).toFixed(2)]);
        last = l.scenario;
    }
    return columns(rows, new Set([2, 3, 5]));
}
