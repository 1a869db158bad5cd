//
// soak.mjs - a steady load for a long time: does anything grow, or fail once in a while?
//
//     node soak.mjs MINUTES RATE SEED
//
// Sessions that stay finalise RATE calls a second; receivers close connections
// that are idle; the configuration is reloaded now and then.  Every few seconds
// the worker's and a session's memory and descriptors are looked at.  Prints a
// table (MARKDOWN=1 says how); the exit status is 0 if nothing grew, was lost,
// came twice or needed a second attempt.

import fs from "node:fs";
import path from "node:path";

import { firstLine, memoryOf, sleep, start, stop } from "../bench/process.mjs";
import { Cluster, secret, Session } from "../bench/server.mjs";
import { Random } from "../chaos/random.mjs";
import { print } from "../chaos/report.mjs";

const [minutes, rate, seed] = [Number(process.argv[2]), Number(process.argv[3]), process.argv[4]];
const here = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);
const random = new Random(seed, "soak");
const say = (text) => console.error(`  ${text}`);

const endpoints = 200;
const sampleSeconds = 3;
const mostGrowth = 1024; // kB
const databaseName = "soak";

// Calls per transaction, and the part of the rate, of each session.  The first,
// the one that is looked at, commits most often.
const kinds = [{ batch: 1, part: 0.2 }, { batch: 5, part: 0.3 }, { batch: 20, part: 0.5 }];

// Half of the endpoints get most of the events; connections of the others are
// often idle for as long as receivers wait, and as the worker keeps them.
function anyEndpoint() {
    const half = endpoints / 2;
    return random.chance(0.85) ? random.integer(0, half - 1) : random.integer(half, endpoints - 1);
}

class Writer {
    constructor(session, number, { batch, part }) {
        Object.assign(this, { session, number, batch, rate: part * rate, calls: 0, transactions: 0 });
    }

    sql() {
        const ids = Array.from({ length: this.batch }, () => `w${this.number}_${this.calls++}`);
        return `BEGIN;
            INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ${ids.map((id) => `('${id}', 'cmp${anyEndpoint()}', '+919876543210')`).join(", ")};
            INSERT INTO osmtalk.calls (id, lead_id, started_at) VALUES ${ids.map((id) => `('${id}', '${id}', now())`).join(", ")};
            UPDATE osmtalk.calls SET answered_at = now() - interval '1 min', ended_at = now(), sip_status_code = 200
             WHERE id IN (${ids.map((id) => `'${id}'`).join(", ")});
            COMMIT`;
    }

    // At an even pace in all, so that a pause is made up for.
    async run(until) {
        const begun = performance.now();
        while (performance.now() < until) {
            const ahead = this.calls / this.rate * 1000 - (performance.now() - begun);
            if (ahead > 0) {
                await sleep(Math.min(ahead, until - performance.now()));
                continue;
            }
            await this.session.query(this.sql());
            this.transactions++;
        }
    }
}

// How many descriptors: sockets, the server's data files, and others.
function descriptorsOf(pid, directory) {
    const counts = { sockets: 0, files: 0, others: 0 };
    for (const name of fs.readdirSync(`/proc/${pid}/fd`))
        try {
            const target = fs.readlinkSync(`/proc/${pid}/fd/${name}`);
            counts[target.startsWith("socket:") ? "sockets" : target.startsWith(directory) ? "files" : "others"]++;
        } catch {
            // closed meanwhile
        }
    return counts;
}

// Until everything has been as large as it gets: each partition of the ring
// filled and emptied, twice, and a backlog sent as fast as it can be.
const retention = "1min";
const ringSeconds = 96; // 16 tenths of it
const warmUp = (seconds) => Math.floor(Math.min(2.5 * ringSeconds, seconds / 4));

const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];

// What a figure was after the warm-up, and at the end.
function course(samples, figure) {
    const warm = samples.slice(warmUp(samples.length * sampleSeconds) / sampleSeconds);
    const part = Math.max(1, Math.floor(warm.length / 5));
    const from = median(warm.slice(0, part).map((sample) => sample[figure]));
    const to = median(warm.slice(-part).map((sample) => sample[figure]));
    return { from, to, growth: to - from };
}

async function setUp() {
    const receivers = start(process.execPath, [path.join(here, "receivers.mjs"), String(endpoints), seed],
        { stdio: ["pipe", "pipe", "inherit"], env: { ...process.env, SOAK_SECRET: secret } });
    const { ports } = JSON.parse(await firstLine(receivers));
    const cluster = await Cluster.create({ checkpoint_timeout: "2min", max_wal_size: "1GB", "osmtalk.retention": `'${retention}'` });
    const database = await cluster.database(databaseName);
    await database.campaigns("cmp", ports.map((port) => `http://127.0.0.1:${port}/hook`));
    const writers = [];
    for (const kind of kinds) writers.push(new Writer(await Session.open(databaseName), writers.length, kind));
    return { receivers, cluster, database, writers };
}

async function ask(receivers) {
    receivers.stdin.write("\n");
    return JSON.parse(await firstLine(receivers));
}

// Nothing is sent for a while in the midst of the warm-up.
async function makeBacklog(seconds) {
    const session = await Session.open("postgres");
    const enabled = async (on) => {
        await session.query(`ALTER SYSTEM SET osmtalk.enabled = ${on}`);
        await session.query("SELECT pg_reload_conf()");
    };
    await sleep(seconds * 1000 / 3);
    await enabled("off");
    await sleep(seconds * 1000 / 6);
    await enabled("on");
    await session.close();
}

// Looks every few seconds, and reloads the configuration every ten looks.
async function look({ cluster, database, writers }, until) {
    const samples = [];
    let reloads = 0;
    const [worker] = database.workers;
    while (performance.now() < until) {
        samples.push({
            worker: memoryOf(worker).RssAnon,
            session: memoryOf(writers[0].session.pid).RssAnon,
            ...descriptorsOf(worker, cluster.dir),
        });
        if (process.env.VERBOSE) say(JSON.stringify(samples.at(-1)));
        if (samples.length % 10 === 0) {
            await cluster.set({ "osmtalk.request_timeout": `'${14 + ++reloads % 2}s'` });
            if (samples.length % 100 === 0) say(`${(samples.length * sampleSeconds / 60).toFixed(0)} minutes`);
        }
        await sleep(Math.max(0, Math.min(sampleSeconds * 1000, until - performance.now())));
    }
    return { samples, reloads };
}

const setting = await setUp();
const { receivers, cluster, database, writers } = setting;
const [worker] = database.workers;
const begun = performance.now();
const until = begun + minutes * 60000;
const [{ samples, reloads }] = await Promise.all([look(setting, until), makeBacklog(warmUp(minutes * 60)), ...writers.map((writer) => writer.run(until))]);
const seconds = (performance.now() - begun) / 1000;
await database.waitUntilDrained(60);

const arrived = await ask(receivers);
const errors = await database.query("SELECT error, count(*) FROM osmtalk.delivery_attempts WHERE error IS NOT NULL GROUP BY 1 ORDER BY 2 DESC");
const [[pid, delivered, failed]] = await database.session.rows("SELECT pid, delivered, failed FROM osmtalk.worker_status");
const outbox = await database.number("SELECT count(*) FROM osmtalk.outbox");
const log = fs.readFileSync(`${cluster.dir}.log`, "utf8");
for (const writer of writers) await writer.session.close();
await database.session.close();
await cluster.stop();
await stop(receivers);

const calls = writers.reduce((n, writer) => n + writer.calls, 0);
const memory = course(samples, "worker");
const session = course(samples, "session");
const sockets = course(samples, "sockets");
const files = course(samples, "files");
const others = course(samples, "others");
const wrong = [];
const must = (condition, what) => { if (!condition) wrong.push(what); };
const mb = (kb) => `${(kb / 1024).toFixed(2)} MB`;
const lines = [
    ["minutes", (seconds / 60).toFixed(1), `seed ${seed}`],
    ["calls finalised", calls, `${(calls / seconds).toFixed(0)} a second, in ${writers.reduce((n, writer) => n + writer.transactions, 0)} transactions`],
    ["requests", arrived.requests, `to ${endpoints} endpoints, on ${arrived.connections} connections`],
    ["idle connections closed by receivers", arrived.closedIdle, "after 0.5 to 5 s"],
    ["reloads of the configuration", reloads],
    ["lost", calls - arrived.calls],
    ["duplicates", arrived.repeated],
    ["bad signatures", arrived.badSignatures],
    ["failed attempts", failed, errors.trim().replaceAll("\n", "; ").replaceAll("\x1f", ": ")],
    ["worker's anonymous memory", mb(memory.to), `${mb(memory.growth)} more than after the warm-up`],
    ["session's anonymous memory", mb(session.to), `${mb(session.growth)} more, after ${writers[0].transactions} transactions`],
    ["worker's sockets", sockets.to, `${sockets.growth} more, at most ${Math.max(...samples.map((sample) => sample.sockets))}`],
    ["worker's files", files.to, `${files.growth} more, at most ${Math.max(...samples.map((sample) => sample.files))}`],
    ["worker's other descriptors", others.to, `${others.growth} more, at most ${Math.max(...samples.map((sample) => sample.others))}`],
].map(([what, value, remark]) => [what, String(value), remark ?? ""]);
print(lines, Boolean(process.env.MARKDOWN));

must(calls >= 0.95 * rate * seconds, `only ${(calls / seconds).toFixed(0)} calls a second`);
must(arrived.calls === calls && outbox === 0, `${calls - arrived.calls} lost, ${outbox} left in the outbox`);
must(arrived.repeated === 0 && arrived.requests === arrived.calls, `${arrived.requests - arrived.calls} duplicates`);
must(arrived.badSignatures === 0 && arrived.bad === 0, "bad requests");
must(Number(failed) === 0 && errors.trim() === "", `${failed} failed attempts`);
must(Number(delivered) === arrived.calls, `${delivered} deliveries by the worker's own count`);
must(Number(pid) === worker, `the worker is ${pid}, it was ${worker}`);
must(memory.growth < mostGrowth, `the worker grew by ${mb(memory.growth)}`);
must(session.growth < mostGrowth, `the session grew by ${mb(session.growth)}`);
// these come and go
must(sockets.growth <= Math.max(16, sockets.from / 4), `${sockets.growth} more sockets`);
must(warmUp(seconds) < 2 * ringSeconds || files.growth <= Math.max(16, files.from / 4), `${files.growth} more files`);
must(others.growth <= 0, `${others.growth} more descriptors`);
must(!log.includes("terminated by signal"), "a process died by a signal");
for (const text of wrong) console.log(`WRONG: ${text}`);
process.exit(wrong.length > 0 ? 1 : 0);
