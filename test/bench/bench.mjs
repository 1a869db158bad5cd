//
// bench.mjs - what "make bench" runs in the stage: the scenarios, then the table
//
//     node bench.mjs RESULTS             measures; see test/bin/bench
//     node bench.mjs compare A B         prints the ratios of two runs
//

import fs from "node:fs";
import os from "node:os";

import { comparison, table } from "./figures.mjs";
import { run, stopAll } from "./process.mjs";

if (process.argv[2] === "compare") {
    const [a, b] = process.argv.slice(3, 5).map((file) => JSON.parse(fs.readFileSync(file, "utf8")));
    for (const [name, results, file] of [["A", a, process.argv[3]], ["B", b, process.argv[4]]])
        console.log(`${name}  ${file}: ${results.at}, ${results.machine.cores} × ${results.machine.cpu}, ${results.postgresql}, SCALE=${results.scale}`);
    console.log();
    console.log(comparison(a, b));
    process.exit(0);
}

const { bin, Cluster } = await import("./server.mjs");
const scenarios = {};
for (const name of ["drain", "live", "enqueue", "isolation", "backlog", "xmin", "retention", "peers", "workers", "descriptors", "idle"])
    scenarios[name] = (await import(`./scenarios/${name}.mjs`))[name];

function setting(name, fallback) {
    const value = Number(process.env[name] || fallback);
    if (!(value > 0)) usage(`${name}=${process.env[name]} is not a positive number`);
    return value;
}

function usage(message) {
    console.error(`bench: ${message}`);
    process.exit(2);
}

const wanted = (process.env.ONLY || Object.keys(scenarios).join(",")).split(/[\s,]+/).filter((name) => name !== "");
for (const name of wanted)
    if (!(name in scenarios)) usage(`ONLY=${name}: one or more of ${Object.keys(scenarios).join(", ")}`);

const output = process.argv[2];
const scale = setting("SCALE", 1);
const results = {
    at: new Date().toISOString(),
    machine: {
        cpu: os.cpus()[0].model.trim(), cores: os.cpus().length, memory: `${Math.round(os.totalmem() / 2 ** 30)} GB`,
        kernel: os.release(), node: process.version,
    },
    postgresql: (await run(bin("postgres"), ["--version"])).stdout.trim(),
    libcurl: (await run("curl-config", ["--version"]).catch(() => ({ stdout: "" }))).stdout.trim(),
    scale, repeats: setting("REPEATS", 3), pairs: setting("PAIRS", 7),
    load: os.loadavg()[0],
    seconds: {}, notes: [], incorrect: [], lines: [],
};
const save = () => fs.writeFileSync(output, JSON.stringify(results, null, 1) + "\n");

// What a scenario is given.
function context(name) {
    return {
        scale,
        repeats: results.repeats,
        pairs: results.pairs,
        size: (full, least = 200) => Math.max(least, Math.round(full * scale)),
        seconds: (full) => scale >= 1 ? full : Math.max(3, Math.round(full * Math.max(scale, 0.5))),
        report: (line) => results.lines.push(line),
        note: (text) => { results.notes.push(text); console.error(`  ${text}`); },
        progress: (text) => console.error(`  ${name}: ${text}`),
        // null, or what is wrong: that fails the run, slowness never does
        verify: (problem) => {
            if (problem === null) return;
            results.incorrect.push(`${name}: ${problem}`);
            console.error(`  INCORRECT ${name}: ${problem}`);
        },
    };
}

for (const name of wanted) {
    const before = performance.now();
    console.error(`${name} …`);
    try {
        await scenarios[name](context(name));
    } catch (error) {
        // the others may still have something to say
        results.incorrect.push(`${name} failed: ${error.stack}`);
        console.error(error);
        await Cluster.stopAll();
        stopAll();
    }
    results.seconds[name] = Math.round((performance.now() - before) / 1000);
    save();
}

const { machine } = results;
console.log(`${results.postgresql}, libcurl ${results.libcurl.replace("libcurl ", "")}, ${machine.cores} × ${machine.cpu}, ` +
    `load at the start ${results.load.toFixed(2)}; SCALE=${scale} REPEATS=${results.repeats} PAIRS=${results.pairs}`);
console.log();
console.log(table(results.lines));
for (const note of results.notes) console.log(note);
console.log(results.incorrect.length === 0 ? "\nEvery event was delivered exactly once."
    : `\nINCORRECT:\n${results.incorrect.join("\n")}`);
process.exit(results.incorrect.length === 0 ? 0 : 1);
