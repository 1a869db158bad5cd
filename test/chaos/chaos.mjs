//
// chaos.mjs - faults, at random times, and whether the promise holds
//
//     node chaos.mjs FAULTS RATE SEED DISK
//
// Writers finalise calls, RATE a second in all; a receiver notes what arrives;
// faults strike one after the other; then database and receiver are compared.
// DISK is a small file system to fill, or empty.  Prints a table; the exit
// status is 0 if nothing was lost, invented or changed.

import fs from "node:fs";
import path from "node:path";

import { firstLine, sleep, start, stop } from "../bench/process.mjs";
import { Cluster, database } from "./cluster.mjs";
import { faults, killed } from "./faults.mjs";
import { judge, readLedger } from "./oracle.mjs";
import { Random } from "./random.mjs";
import { Writer } from "./writers.mjs";

const [faultsWanted, rate, seed, disk] = [Number(process.argv[2]), Number(process.argv[3]), process.argv[4], process.argv[5] || null];
const { BINDIR, SOCKETS, STAGE } = process.env;
const here = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);

const secret = "whsec_chaos_0123456789abcdefghij";
const maxInFlight = 64;
const nwriters = 6;
const endpoints = 8;
const recoverySeconds = 2; // of a worker; of a server, once it accepts connections

const random = new Random(seed, "faults");
const ledgerFile = path.join(STAGE, "ledger");
const say = (text) => console.error(`  ${text}`);

async function setUp() {
    const receiver = start(process.execPath, [path.join(here, "receiver.mjs"), ledgerFile, seed, secret, String(endpoints)],
        { stdio: ["pipe", "pipe", "inherit"] });
    const { ports } = JSON.parse(await firstLine(receiver));
    const cluster = new Cluster(path.join(disk ?? STAGE, "data"));
    await cluster.create({
        listen_addresses: "",
        unix_socket_directories: SOCKETS,
        shared_preload_libraries: "osmtalk",
        log_line_prefix: "%n [%p] ",
        max_prepared_transactions: 20,
        max_worker_processes: 16,
        restart_after_crash: "on",
        checkpoint_timeout: "30s",
        max_wal_size: "128MB",
        "osmtalk.trusted_networks": "127.0.0.0/8",
        "osmtalk.request_timeout": "1500ms",
        "osmtalk.max_in_flight": maxInFlight,
    }, path.join(STAGE, "server.log"));
    await cluster.sql(`CREATE EXTENSION osmtalk;
        INSERT INTO osmtalk.org_settings (org_id, webhook_secret) VALUES ('org', '${secret}');
        INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_url) VALUES ${ports.map((port, i) =>
        `('cmp${i}', 'org', 'Campaign', 'http://127.0.0.1:${port}/hook')`).join(", ")};`);
    return { cluster, receiver };
}

// The fault, and until deliveries go on.
async function strike(cluster) {
    const weights = Object.fromEntries(Object.entries(faults)
        .filter(([, fault]) => fault.needs !== "disk" || disk !== null).map(([kind, fault]) => [kind, fault.weight]));
    const kind = random.pick(weights);
    const from = Date.now();
    if (process.env.VERBOSE) say(`${from} ${kind}`);
    await faults[kind].strike({ cluster, random, disk });
    const to = Date.now();
    const size = fs.statSync(ledgerFile).size;
    let recovered = true;
    while (recovered && fs.statSync(ledgerFile).size === size) {
        await sleep(10);
        recovered = Date.now() - to < 30000;
    }
    if (!recovered) say(`nothing is delivered 30 s after: ${kind}`);
    return { kind, from, recovered };
}

// What is left of transactions that a crash cut off between their two phases:
// they would hold their locks for ever.
async function endPrepared(cluster, age) {
    const names = (await cluster.sql(`SELECT gid FROM pg_prepared_xacts WHERE prepared < now() - interval '${age}'`)).split("\n").filter((line) => line !== "");
    for (const name of names) await cluster.sql(`${random.chance(0.5) ? "COMMIT" : "ROLLBACK"} PREPARED '${name}'`);
}

// When the worker of before was gone for certain, by the server's log; not set
// for a fault that came to nothing.
function findEnds(struck, log) {
    const times = (pattern) => log.filter(([, text]) => pattern.test(text)).map(([at]) => at);
    const ready = times(/ready to accept connections/);
    const ended = times(/background worker "osmtalk worker" \(PID \d+\) exited/);
    struck.forEach((fault, i) => {
        if (!faults[fault.kind].endsWorker) return;
        fault.end = (faults[fault.kind].endsServer ? ready : ended)
            .filter((at) => at >= fault.from && at < (struck[i + 1]?.from ?? Infinity)).at(-1);
    });
}

// Seconds from there until the first request.
function recoveries(crashes, ledger) {
    const result = {};
    let next = 0;
    for (const { kind, end } of crashes) {
        while (next < ledger.length && ledger[next].at < end) next++;
        if (next < ledger.length) (result[kind] ??= []).push((ledger[next].at - end) / 1000);
    }
    return result;
}

function report({ struck, result, writers, recovered, strangeDeaths, seconds }) {
    const bound = (n, trials) => n === 0 ? `95 % upper bound ${(300 / trials).toPrecision(2)} %` : "";
    const lines = [];
    const line = (what, value, remark = "") => lines.push([what, String(value), remark]);
    line("seed", seed, `${rate} calls/s wanted, ${seconds.toFixed(0)} s`);
    line("calls in the database", result.calls);
    line("events", result.events);
    line("requests", result.requests);
    line("transactions", writers.reduce((n, w) => n + w.transactions, 0),
        Object.keys(writers[0].counts).map((way) => `${way} ${writers.reduce((n, w) => n + w.counts[way], 0)}`).join(", "));
    line("faults", struck.length);
    for (const kind of Object.keys(faults)) {
        const times = recovered[kind] ?? [];
        const n = struck.filter((fault) => fault.kind === kind).length;
        const sorted = [...times].sort((a, b) => a - b);
        if (n > 0 || faults[kind].needs === undefined || disk !== null)
            line(`  ${kind}`, n, times.length > 0
                ? `next delivery after ${sorted[Math.floor(sorted.length / 2)].toFixed(2)} s, at most ${sorted.at(-1).toFixed(2)} s` : "");
        else line(`  ${kind}`, n, "needs a file system to fill, which takes root");
    }
    line("confirmed transactions lost", result.lostTransactions);
    line("outcomes without their one event", result.lostOutcomes);
    line("events without a request", result.lostEvents, bound(result.lostEvents, result.events));
    line("events without a result", result.withoutResult);
    line("events left in the outbox", result.waiting);
    line("phantom requests", result.phantoms, bound(result.phantoms, result.requests));
    line("traces of what was taken back", result.takenBack);
    line("bodies that differ", result.differentBodies, bound(result.differentBodies, result.requests));
    line("bad signatures", result.badSignatures, bound(result.badSignatures, result.requests));
    line("duplicates", result.duplicates, `at most ${result.mostPerCrash} for one end of a worker, ${maxInFlight} may be in flight`);
    line("duplicates without such an end", result.unexplained);
    line("deaths by a signal that was not ours", strangeDeaths.length, strangeDeaths.slice(0, 3).join("; "));
    const width = Math.max(...lines.map(([what]) => what.length));
    const right = Math.max(...lines.map(([, value]) => value.length));
    for (const [what, value, remark] of lines) console.log(`${what.padEnd(width)}  ${value.padStart(right)}  ${remark}`.trimEnd());
}

// What must not be, in words.
function failures({ struck, result, recovered, strangeDeaths }) {
    const wrong = [];
    for (const name of ["lostTransactions", "lostOutcomes", "lostEvents", "withoutResult", "waiting", "phantoms", "takenBack",
        "differentBodies", "badSignatures", "unexplained"])
        if (result[name] !== 0) wrong.push(`${name}: ${result[name]}`);
    if (result.mostPerCrash > maxInFlight) wrong.push(`${result.mostPerCrash} duplicates for one end of a worker`);
    if (strangeDeaths.length > 0) wrong.push(`died by a signal: ${strangeDeaths.join("; ")}`);
    for (const { kind } of struck.filter((fault) => !fault.recovered)) wrong.push(`no delivery within 30 s of: ${kind}`);
    for (const [kind, times] of Object.entries(recovered)) {
        const late = times.filter((seconds) => seconds > recoverySeconds);
        if (late.length > 0) wrong.push(`${kind}: ${late.length} times later than ${recoverySeconds} s, at most ${Math.max(...late).toFixed(2)} s`);
    }
    return wrong;
}

const { cluster, receiver } = await setUp();
const begun = Date.now();
const writers = Array.from({ length: nwriters }, (_, number) => new Writer({
    psql: path.join(BINDIR, "psql"),
    database: `host=${SOCKETS} user=postgres dbname=${database}`,
    seed, number, rate: rate / nwriters,
    campaigns: Array.from({ length: endpoints }, (_, i) => `cmp${i}`),
}));
const writing = writers.map((writer) => writer.run());
const struck = [];
await sleep(1000);
while (struck.length < faultsWanted) {
    await endPrepared(cluster, "2 s");
    struck.push(await strike(cluster));
    if (struck.length % 10 === 0) say(`${struck.length} faults, ${((Date.now() - begun) / 1000).toFixed(0)} s`);
    await sleep(random.between(100, 1000));
}
for (const writer of writers) writer.stopping = true;
await Promise.all(writing);
await endPrepared(cluster, "0");
const drained = (await cluster.sql("SELECT osmtalk.wait_until_drained('120 s')")).trim() === "t";
const seconds = (Date.now() - begun) / 1000;

const ledger = readLedger(ledgerFile);
const log = cluster.readLog();
const outcomes = { confirmed: writers.flatMap((w) => w.outcomes.confirmed), takenBack: writers.flatMap((w) => w.outcomes.takenBack) };
findEnds(struck, log);
const crashes = struck.filter(({ end }) => end !== undefined);
const result = await judge({ cluster, ledger, outcomes, crashes });
const strangeDeaths = log.map(([, text]) => text).filter((text) => text.includes("terminated by signal"))
    .filter((text) => !killed.has(Number(text.match(/PID (\d+)/)?.[1])) && !(cluster.diskFull && /signal 6/.test(text)));
const recovered = recoveries(crashes, ledger);
await cluster.stop("fast");
await stop(receiver);

report({ struck, result, writers, recovered, strangeDeaths, seconds });
const wrong = failures({ struck, result, recovered, strangeDeaths });
if (!drained) wrong.push("not drained within 120 s");
for (const text of result.strange.slice(0, 10)) console.log(`sent again: ${text}`);
for (const text of wrong) console.log(`WRONG: ${text}`);
process.exit(wrong.length > 0 ? 1 : 0);
