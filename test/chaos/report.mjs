//
// report.mjs - the table, and what in it must not be
//

import { faults, longest } from "./faults.mjs";

const zeros = {
    lostTransactions: "confirmed transactions lost",
    lostOutcomes: "outcomes without their one event",
    lostEvents: "events without a request",
    withoutResult: "events without a result",
    waiting: "events left in the outbox",
    phantoms: "phantom requests",
    takenBack: "traces of what was taken back",
    differentBodies: "bodies that differ",
    badSignatures: "bad signatures",
    unexplained: "duplicates without such an end",
};

const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

// [what, value, remark] of each line.
export function table({ seed, rate, seconds, maxInFlight, disk, struck, result, writers, recovered, strangeDeaths }) {
    const lines = [];
    const line = (what, value, remark = "") => lines.push([what, String(value), remark]);
    const zero = (name, trials) => line(zeros[name], result[name],
        trials !== undefined && result[name] === 0 ? `95 % upper bound ${(300 / trials).toPrecision(2)} %` : "");
    line("seed", seed, `${rate} calls/s wanted, ${seconds.toFixed(0)} s`);
    line("calls in the database", result.calls);
    line("events", result.events);
    line("requests", result.requests);
    line("transactions", sum(writers.map((w) => w.transactions)),
        Object.keys(writers[0].counts).map((way) => `${way} ${sum(writers.map((w) => w.counts[way]))}`).join(", "));
    line("faults", struck.length, Object.keys(zeros).every((name) => result[name] === 0)
        ? `95 % upper bound for one after which something is lost, invented or changed ${(300 / struck.length).toPrecision(2)} %` : "");
    for (const [kind, { needs }] of Object.entries(faults)) {
        const times = [...recovered[kind] ?? []].sort((a, b) => a - b);
        const n = struck.filter((fault) => fault.kind === kind).length;
        if (needs === "disk" && disk === null)
            line(`- ${kind}`, n, "needs a file system to fill, which takes root");
        else line(`- ${kind}`, n, times.length > 0
            ? `next delivery after ${times[Math.floor(times.length / 2)].toFixed(2)} s, at most ${times.at(-1).toFixed(2)} s` : "");
    }
    for (const [what, time] of Object.entries(longest)) line(`longest ${what}`, `${time.toFixed(2)} s`);
    if (result.delays.length > 0)
        line("from commit to request", `${result.delays.at(-1).toFixed(2)} s`,
            `at most, faults in between included; the median is ${result.delays[Math.floor(result.delays.length / 2)].toFixed(3)} s`);
    zero("lostTransactions");
    zero("lostOutcomes");
    zero("lostEvents", result.events);
    zero("withoutResult");
    zero("waiting");
    zero("phantoms", result.requests);
    zero("takenBack");
    zero("differentBodies", result.requests);
    zero("badSignatures", result.requests);
    line("duplicates", result.duplicates, `at most ${result.mostPerCrash} for one end of a worker, ${maxInFlight} may be in flight`);
    zero("unexplained");
    line("deaths by a signal that was not ours", strangeDeaths.length, strangeDeaths.slice(0, 3).join("; "));
    return lines;
}

export function print(lines, markdown) {
    if (markdown) {
        console.log("| | | |\n|---|--:|---|");
        for (const line of lines) console.log(`| ${line.join(" | ")} |`);
        return;
    }
    const width = Math.max(...lines.map(([what]) => what.length));
    const right = Math.max(...lines.map(([, value]) => value.length));
    for (const [what, value, remark] of lines) console.log(`${what.padEnd(width)}  ${value.padStart(right)}  ${remark}`.trimEnd());
}

// What must not be, in words.
export function failures({ patience, maxInFlight, struck, result, recovered, strangeDeaths }) {
    const wrong = [];
    struck.forEach(({ kind, wrong: seen }, i) => wrong.push(...seen.map((text) => `fault ${i + 1}, ${kind}: ${text}`)));
    for (const [name, what] of Object.entries(zeros))
        if (result[name] !== 0) wrong.push(`${result[name]} ${what}`);
    for (const text of result.strange.slice(0, 10)) wrong.push(`sent again: ${text}`);
    if (result.mostPerCrash > maxInFlight) wrong.push(`${result.mostPerCrash} duplicates for one end of a worker`);
    if (strangeDeaths.length > 0) wrong.push(`died by a signal: ${strangeDeaths.join("; ")}`);
    for (const [kind, times] of Object.entries(recovered)) {
        const most = Math.max(patience, faults[kind].patience ?? 0);
        const late = times.filter((seconds) => seconds > most);
        if (late.length > 0) wrong.push(`${kind}: ${late.length} times no delivery for ${most} s, at most ${Math.max(...late).toFixed(2)} s`);
    }
    return wrong;
}
