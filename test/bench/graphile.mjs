//
// graphile.mjs - graphile-worker doing the same, tuned as its documentation advises
//
//     node graphile.mjs URL SECRET COUNT
//
// Run from a directory in which graphile-worker and undici are installed; the
// database is that of PGHOST, PGUSER and PGDATABASE.  Prints "ready", waits for
// a line, performs COUNT jobs "deliver" ({id, body}), and prints one JSON object:
// seconds from the first job's start to the last answer.  Ends at the end of
// standard input, when what it completed is recorded.

import crypto from "node:crypto";
import { once } from "node:events";
import { createRequire } from "node:module";
import path from "node:path";
import readline from "node:readline";

const require = createRequire(path.join(process.cwd(), "package.json"));
const { Logger, run, runMigrations } = require("graphile-worker");
const { Pool, request } = require("undici");

const [url, secret, count] = process.argv.slice(2);
const concurrency = 64;
const dispatcher = new Pool(new URL(url).origin, { connections: concurrency });
let begun = null;
let cpu = null;
let done = 0;
let bad = 0;
let allDone;
const finished = new Promise((resolve) => { allDone = resolve; });

async function deliver({ id, body }) {
    if (begun === null) {
        begun = performance.now();
        cpu = process.cpuUsage();
    }
    const signature = crypto.createHmac("sha256", secret).update(body).digest("hex");
    const answer = await request(url, {
        dispatcher,
        method: "POST",
        headers: {
            "Content-Type": "application/json",
            "User-Agent": "osmTalk-Webhooks/graphile-worker",
            "X-OsmTalk-Event-Id": id,
            "X-OsmTalk-Signature": `sha256=${signature}`,
        },
        body,
        headersTimeout: 15000,
        bodyTimeout: 15000,
    });
    await answer.body.dump();
    if (answer.statusCode < 200 || answer.statusCode > 299) bad++;
    if (++done === Number(count)) allDone(performance.now());
}

const options = {
    preset: {
        worker: {
            connectionString: `postgres:///${process.env.PGDATABASE}`,
            concurrentJobs: concurrency,
            maxPoolSize: 10,
            pollInterval: 2000,
            preparedStatements: true,
            localQueue: { size: 500 },
            completeJobBatchDelay: 0,
            failJobBatchDelay: 0,
        },
    },
    logger: new Logger(() => () => {}),
    noHandleSignals: true,
};

await runMigrations(options);
console.log("ready");
const lines = readline.createInterface({ input: process.stdin });
await once(lines, "line");
const runner = await run({ ...options, taskList: { deliver } });
const ended = await finished;
const used = process.cpuUsage(cpu);
console.log(JSON.stringify({ seconds: (ended - begun) / 1000, cpu: (used.user + used.system) / 1e6, bad }));
await once(lines, "close");
await runner.stop();
process.exit(0);
