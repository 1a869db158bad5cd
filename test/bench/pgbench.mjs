//
// pgbench.mjs - applications that finalise calls
//

import fs from "node:fs";
import path from "node:path";

import { run } from "./process.mjs";
import { bin } from "./server.mjs";

const { SOCKETS, STAGE } = process.env;
const here = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);

// loads: [{ schema, first, weight }], first being the number of the first call;
// either transactions per client, or seconds and a rate.  With log, the
// transactions' latencies too, in milliseconds from when each should have begun.
export async function pgbench(database, loads, { clients, transactions, seconds, rate, synchronousCommit = "on", log = false }) {
    const args = ["-n", "-M", "prepared", "-c", clients, "-j", Math.min(clients, 2), "-D", `clients=${clients}`];
    const template = fs.readFileSync(path.join(here, "finalise.pgbench"), "utf8");
    for (const [i, { schema = "osmtalk", first, weight = 1 }] of loads.entries()) {
        const counter = `n${i}`;
        const file = path.join(STAGE, `finalise-${schema}-${counter}.pgbench`);
        fs.writeFileSync(file, template.replaceAll("SCHEMA", schema).replaceAll("COUNTER", counter));
        args.push("-f", `${file}@${weight}`, "-D", `${counter}=-1`, "-D", `first_${counter}=${first}`);
    }
    if (transactions !== undefined) args.push("-t", transactions);
    if (seconds !== undefined) args.push("-T", seconds);
    if (rate !== undefined) args.push("-R", rate);
    const prefix = `latencies-${process.pid}-${performance.now()}`;
    if (log) args.push("-l", `--log-prefix=${path.join(STAGE, prefix)}`);
    const { stdout } = await run(bin("pgbench"), [...args.map(String), "-h", SOCKETS, "-U", "postgres", database.name],
        { env: { ...process.env, PGOPTIONS: `-c synchronous_commit=${synchronousCommit}` } });
    return {
        tps: Number(stdout.match(/^tps = ([\d.]+)/m)[1]),
        done: Number(stdout.match(/actually processed: (\d+)/)[1]),
        latency: log ? readLatencies(prefix) : undefined,
    };
}

function readLatencies(prefix) {
    const times = [];
    for (const file of fs.readdirSync(STAGE).filter((name) => name.startsWith(prefix)).map((name) => path.join(STAGE, name))) {
        for (const entry of fs.readFileSync(file, "utf8").split("\n"))
            if (entry !== "") times.push(Number(entry.split(" ")[2]) / 1000);
        fs.unlinkSync(file);
    }
    times.sort((a, b) => a - b);
    const percentile = (p) => times[Math.min(times.length - 1, Math.floor(times.length * p))];
    return { p50: percentile(0.5), p99: percentile(0.99), max: times.at(-1) };
}

// Milliseconds from commit to arrival of what the recorder has, of the events
// that satisfy a condition (e: the event, a: its arrival).  PostgreSQL notes
// the time of a commit just before it flushes it, so the flush is included.
export async function latencies(database, recorder, { where = "true" } = {}) {
    const file = path.join(STAGE, "arrivals");
    await recorder.dump(file);
    const [[count, distinct, p50, p95, p99]] = await database.session.rows(`
        CREATE TEMPORARY TABLE arrival (event_id text, at double precision);
        COPY arrival FROM '${file}';
        WITH measured AS (
            SELECT a.event_id, a.at - extract(epoch FROM pg_xact_commit_timestamp(e.xmin)) * 1000 AS ms
              FROM arrival a JOIN osmtalk.events e ON e.id = a.event_id
             WHERE ${where})
        SELECT count(*), count(DISTINCT event_id),
               percentile_cont(0.5) WITHIN GROUP (ORDER BY ms),
               percentile_cont(0.95) WITHIN GROUP (ORDER BY ms),
               percentile_cont(0.99) WITHIN GROUP (ORDER BY ms)
          FROM measured;
        DROP TABLE arrival`);
    return { count: Number(count), distinct: Number(distinct), p50: Number(p50), p95: Number(p95), p99: Number(p99) };
}
