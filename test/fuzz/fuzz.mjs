//
// fuzz.mjs - whatever comes in: is each thing what the contract says, and does everything go on?
//
//     node fuzz.mjs CASES SECONDS SEED
//
// CASES calls and as many answers of receivers, or as many as there is time
// for.  Prints what was tried and what was wrong; the exit status is 0 if
// nothing was.

import fs from "node:fs";
import path from "node:path";
import readline from "node:readline";

import { firstLine, memoryOf, sleep, start, watchMemory } from "../bench/process.mjs";
import { Cluster } from "../bench/server.mjs";
import { Random } from "../chaos/random.mjs";
import { Generator } from "./generate.mjs";
import { HttpCases } from "./http.mjs";
import { SqlCases } from "./sql.mjs";

const [cases, seconds] = [Number(process.argv[2]), Number(process.argv[3])];
const seed = process.argv[4];
const here = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);
const hosts = 60; // each with an endpoint for answers that are clear and one for others
const begun = performance.now();
const elapsed = () => (performance.now() - begun) / 1000;
const say = (text) => console.error(`  ${elapsed().toFixed(0).padStart(4)} s  ${text}`);
const databaseName = "fuzz";
const mostShown = 20;
const mostGrowth = 32 * 1024; // kB of the worker's memory: bodies in flight, and what libcurl keeps

const spent = {};
async function timed(what, work) {
    const from = elapsed();
    await work();
    spent[what] = (spent[what] ?? 0) + elapsed() - from;
}

let failures = 0;
function report(what, detail) {
    if (++failures > mostShown) return;
    console.log(`WRONG: ${what}\n${JSON.stringify(detail, (key, value) => typeof value === "bigint" ? String(value) : value).slice(0, 4000)}\n`);
}

// What has come to the receivers, by the event's id.
const received = new Map();
async function startReceivers() {
    const child = start("node", [path.join(here, "receivers.mjs"), seed, String(hosts)], { stdio: ["pipe", "pipe", "inherit"] });
    const urls = JSON.parse(await firstLine(child));
    readline.createInterface({ input: child.stdout }).on("line", (line) => {
        const [id, sha256, sign] = line.split(" ");
        received.set(id, [...received.get(id) ?? [], { sha256, signature: sign === "?" ? undefined : sign }]);
    });
    child.ended.then(() => report("the receivers have ended", {}));
    return urls;
}

// Those that have come, until there are no more than so many that have not.
async function checkReceived(bodies, most) {
    const deadline = elapsed() + 300;
    for (;;) {
        for (const [id, should] of bodies) {
            const got = received.get(id);
            if (!got) continue;
            if (got.length > 1) report("an event that came twice", { id });
            if (got[0].sha256 !== should.sha256) report("a body that changed on its way", { id });
            else if (got[0].signature !== should.signature) report("a signature", { id, is: got[0].signature, should: should.signature });
            received.delete(id);
            bodies.delete(id);
        }
        if (bodies.size <= most) return;
        if (elapsed() > deadline) break;
        await sleep(20);
    }
    for (const id of bodies.keys()) report("an event that did not arrive", { id });
    bodies.clear();
}

const maxPayloads = [1024, 2048, 4096, 65536, 262144];

async function main() {
    const cluster = await Cluster.create({ synchronous_commit: "off", "osmtalk.request_timeout": "10s", "osmtalk.analysis_timeout": "2000000s", "osmtalk.call_timeout": "0" });
    const database = await cluster.database(databaseName);
    const random = new Random(seed, "fuzz");
    const urls = await startReceivers();
    const sql = new SqlCases({ cluster, database: databaseName, generator: new Generator(random), urls: [urls.url], report });
    const answers = new HttpCases({ database: databaseName, seed, urls, received, report });
    await sql.configure();
    await answers.configure();
    await database.findWorkers(1);
    const [worker] = database.workers;
    const before = memoryOf(worker).RssAnon;
    const peak = watchMemory([worker]);
    const backend = { peak: 0 };

    const goesOn = (counts) => counts.cases < cases && elapsed() < seconds && failures < 1000;
    const told = setInterval(() => say(`${sql.counts.cases} calls, ${sql.counts.events} events, ${answers.counts.cases} answers, ${failures} wrong`), 20000);
    const theCalls = async () => {
        for (let round = 0; goesOn(sql.counts); round++) {
            if (round % 4 === 0) await sql.setMaxPayload(maxPayloads[(round / 4 + Number(random.chance(0.5))) % maxPayloads.length]);
            await timed("calls", () => sql.batch(Math.min(250, cases - sql.counts.cases)));
            await timed("functions", () => sql.functions(250));
            await checkReceived(sql.bodies, random.chance(0.9) ? 2000 : 0);
            backend.peak = Math.max(backend.peak, memoryOf(sql.session.pid).VmHWM ?? 0);
        }
        await checkReceived(sql.bodies, 0);
    };
    const theAnswers = async () => {
        while (goesOn(answers.counts)) await timed("answers", () => answers.batch(Math.min(1000, cases - answers.counts.cases)));
    };
    await Promise.all([theCalls(), theAnswers()]);
    clearInterval(told);

    const memory = peak();
    await database.findWorkers(1);
    if (database.workers[0] !== worker) report("the worker is another", {});
    if (memory.anon * 1024 - before > mostGrowth) report("the worker's memory", { before, peak: memory.anon * 1024 });
    const log = fs.readFileSync(`${cluster.dir}.log`, "utf8");
    for (const line of log.split("\n")) if (/terminated by signal|PANIC|TRAP|server process|could not be decided/.test(line)) report("the server's log", { line });

    console.log(`seed ${seed}, ${elapsed().toFixed(0)} s, ${Math.round(before / 1024)} MB of the worker's own memory at the start, ${memory.anon.toFixed(0)} MB at most; a session's VmHWM ${Math.round(backend.peak / 1024)} MB
calls          ${sql.counts.cases}
  events       ${sql.counts.events}, ${sql.counts.truncated} of them cut down to osmtalk.max_payload
functions      ${sql.counts.functions} of each
answers        ${answers.counts.cases}: ${Object.entries(answers.counts.kinds).map(([kind, n]) => `${kind} ${n}`).join(", ")}
seconds        ${Object.entries(spent).map(([what, n]) => `${what} ${n.toFixed(0)}`).join(", ")}
wrong          ${failures}`);
    if (sql.counts.cases === 0 || answers.counts.cases === 0) report("nothing was tried", {});
    await cluster.destroy();
}

try {
    await main();
} catch (error) {
    console.error(error);
    await Cluster.stopAll();
    failures++;
}
process.exit(failures > 0 ? 1 : 0);
