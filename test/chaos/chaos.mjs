//
// chaos.mjs - faults, at random times, and whether the promise holds
//
//     node chaos.mjs FAULTS RATE SEED PATIENCE CLOCK [DISK]
//
// Writers finalise calls, RATE a second in all; a receiver notes what arrives;
// faults strike one after the other, first each kind once, then by chance; what
// the database has is compared with what was received, after each fault and at
// the end.  PATIENCE is how many seconds may pass until deliveries go on, CLOCK
// the library made of clock.c, DISK a small file system to fill.  Prints a
// table (MARKDOWN=1 says how); the exit status is 0 if nothing was lost,
// invented or changed.

import fs from "node:fs";
import path from "node:path";

import { firstLine, sleep, start, stop } from "../bench/process.mjs";
import { becomes, Cluster, database } from "./cluster.mjs";
import { faults, killed, makeFormerVersion } from "./faults.mjs";
import { judge, Ledger, Watch } from "./oracle.mjs";
import { Random } from "./random.mjs";
import { failures, print, table } from "./report.mjs";
import { Writer } from "./writers.mjs";

const [faultsWanted, rate, seed, patience, clockLibrary, disk] =
    [Number(process.argv[2]), Number(process.argv[3]), process.argv[4], Number(process.argv[5]), process.argv[6], process.argv[7] || null];
const { BINDIR, STAGE } = process.env;
const here = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);

const secret = "whsec_chaos_0123456789abcdefghij";
const maxInFlight = 64;
const nwriters = 6;
const endpoints = 8;

const random = new Random(seed, "faults");
const ledgerFile = path.join(STAGE, "ledger");
const say = (text) => console.error(`  ${text}`);

async function setUp() {
    const receiver = start(process.execPath, [path.join(here, "receiver.mjs"), ledgerFile, seed, secret, String(endpoints)],
        { stdio: ["pipe", "pipe", "inherit"] });
    const urls = JSON.parse(await firstLine(receiver)).ports.map((port) => `http://127.0.0.1:${port}`);
    const cluster = new Cluster({
        place: disk ?? STAGE,
        logFile: path.join(STAGE, "server.log"),
        clock: { library: clockLibrary, file: path.join(STAGE, "clock") },
    });
    await makeFormerVersion();
    await cluster.create({
        listen_addresses: "",
        unix_socket_directories: process.env.SOCKETS,
        shared_preload_libraries: "osmtalk",
        log_line_prefix: "[%p] ",
        max_prepared_transactions: 20,
        max_worker_processes: 16,
        restart_after_crash: "on",
        checkpoint_timeout: "30s",
        max_wal_size: "128MB",
        "osmtalk.trusted_networks": "127.0.0.0/8",
        "osmtalk.request_timeout": "1500ms",
        "osmtalk.max_in_flight": maxInFlight,
    });
    await cluster.sql(`CREATE EXTENSION osmtalk;
        INSERT INTO osmtalk.org_settings (org_id, webhook_secret) VALUES ('org', '${secret}');
        INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_url) VALUES ${urls.map((url, i) =>
        `('cmp${i}', 'org', 'Campaign', '${url}/hook')`).join(", ")};`);
    return { cluster, receiver, url: urls[0] };
}

// All kinds (or those whose name contains ONLY), shuffled; then any.
function* kindsInTurn() {
    const weights = Object.fromEntries(Object.entries(faults)
        .filter(([kind, fault]) => (fault.needs !== "disk" || disk !== null) && kind.includes(process.env.ONLY ?? ""))
        .map(([kind, fault]) => [kind, fault.weight]));
    if (Object.keys(weights).length === 0) throw new Error(`no kind of fault is called "${process.env.ONLY}"`);
    yield* random.shuffle(Object.keys(weights));
    for (;;) yield random.pick(weights);
}

// The fault, and until deliveries go on.
async function strike({ kind, cluster, url }) {
    const wrong = [];
    const complain = (text) => wrong.push(text);
    const from = Date.now();
    if (process.env.VERBOSE) say(`${from} ${kind}`);
    await faults[kind].strike({ cluster, random, disk, url, patience, complain });
    const { size } = fs.statSync(ledgerFile);
    if (!await becomes(() => fs.statSync(ledgerFile).size > size, 30)) complain("nothing is delivered for 30 s");
    return { kind, from, wrong };
}

// What is left of transactions that a crash cut off between their two phases:
// they would hold their locks for ever.  Their own times are the server's.
const preparedSince = new Map();

async function endPrepared(cluster, age) {
    const names = (await cluster.rows("SELECT gid FROM pg_prepared_xacts")).map(([name]) => name);
    for (const name of names) {
        if (!preparedSince.has(name)) preparedSince.set(name, performance.now());
        if (performance.now() - preparedSince.get(name) < age * 1000) continue;
        // its writer may be there after all
        await cluster.sql(`${random.chance(0.5) ? "COMMIT" : "ROLLBACK"} PREPARED '${name}'`).catch((error) => {
            if (!/does not exist|is busy/.test(error.message)) throw error;
        });
    }
}

// When the worker of before was gone for certain, by the server's log; not set
// for a fault that came to nothing.
function findEnds(struck, log) {
    const times = (pattern) => log.filter(({ text }) => pattern.test(text)).map(({ at }) => at);
    const ready = times(/ready to accept connections/);
    const ended = times(/background worker "osmtalk worker" \(PID \d+\) exited/);
    struck.forEach((fault, i) => {
        if (!faults[fault.kind].endsWorker) return;
        fault.end = (faults[fault.kind].endsServer ? ready : ended)
            .filter((at) => at >= fault.from && at < (struck[i + 1]?.from ?? Infinity)).at(-1);
    });
}

// Seconds from there until the first request.  One that a worker made just
// before its end may be noted just after it; not so a server's, which takes
// longer to come back.
function recoveries(crashes, entries) {
    const result = {};
    let next = 0;
    for (const { kind, end } of crashes) {
        const from = faults[kind].endsServer ? end : end + 100;
        while (next < entries.length && entries[next].at < from) next++;
        if (next < entries.length) (result[kind] ??= []).push((entries[next].at - end) / 1000);
    }
    return result;
}

// Until there were as many as wanted, or one after which something is wrong.
async function strikeAll({ cluster, url, watch }) {
    const begun = performance.now();
    const struck = [];
    for (const kind of kindsInTurn()) {
        await sleep(random.between(100, 1000));
        await endPrepared(cluster, 2);
        const fault = await strike({ kind, cluster, url });
        struck.push(fault);
        fault.wrong.push(...await watch.look());
        for (const text of fault.wrong) say(`wrong after fault ${struck.length}, ${kind}: ${text}`);
        if (struck.length % 10 === 0) say(`${struck.length} faults, ${((performance.now() - begun) / 1000).toFixed(0)} s`);
        if (struck.length === faultsWanted || fault.wrong.length > 0) return struck;
    }
    return struck;
}

const { cluster, receiver, url } = await setUp();
const begun = performance.now();
const writers = Array.from({ length: nwriters }, (_, number) => new Writer({
    psql: path.join(BINDIR, "psql"),
    conninfo: () => `${cluster.conninfo} dbname=${database}`,
    seed, number, rate: rate / nwriters,
    campaigns: Array.from({ length: endpoints }, (_, i) => `cmp${i}`),
}));
const writing = writers.map((writer) => writer.run());
const ledger = new Ledger(ledgerFile);
const struck = await strikeAll({ cluster, url, watch: new Watch({ cluster, ledger, writers }) });
for (const writer of writers) writer.stopping = true;
await Promise.all(writing);
await endPrepared(cluster, 0);
const drained = await cluster.value("SELECT osmtalk.wait_until_drained('120 s')") === "t";
const seconds = (performance.now() - begun) / 1000;

ledger.readOn();
cluster.log.readOn();
const log = cluster.log.lines;
const outcomes = { confirmed: writers.flatMap((w) => w.outcomes.confirmed), takenBack: writers.flatMap((w) => w.outcomes.takenBack) };
findEnds(struck, log);
const crashes = struck.filter(({ end }) => end !== undefined);
const result = await judge({ cluster, ledger, outcomes, crashes });
const strangeDeaths = log.map(({ text }) => text).filter((text) => text.includes("terminated by signal"))
    .filter((text) => !killed.has(Number(text.match(/PID (\d+)/)?.[1])) && !(cluster.diskFull && /signal 6/.test(text)));
await cluster.stop("fast");
await stop(receiver);
cluster.log.close();

const all = { seed, rate, seconds, patience, maxInFlight, disk, struck, result, writers, strangeDeaths, recovered: recoveries(crashes, ledger.entries) };
print(table(all), Boolean(process.env.MARKDOWN));
const wrong = failures(all);
if (!drained) wrong.push("not drained within 120 s");
for (const text of wrong) console.log(`WRONG: ${text}`);
process.exit(wrong.length > 0 ? 1 : 0);
