//
// faults.mjs - what production servers meet, one at a time
//
// A fault leaves the server as it found it: running, writable, with room on
// its disk, its clock right.  What is to be known of each for judging it
// afterwards: whether it ends the worker, so that requests in flight are made
// again, whether it ends the server, and how many seconds until deliveries go
// on are too many, if more than usual.  What a fault itself sees go wrong it
// says to "complain".

import fs from "node:fs";
import path from "node:path";

import { run, sleep } from "../bench/process.mjs";

// The processes that a fault kills with a signal: the log may name these, and no others.
export const killed = new Set();

function kill(pid, signal = "SIGKILL") {
    try {
        process.kill(pid, signal);
        if (signal === "SIGKILL") killed.add(pid);
    } catch {
        // it is gone already
    }
}

async function setForAWhile({ cluster, random }, setting, value, usual) {
    await cluster.set(setting, value);
    await sleep(random.between(200, 1500));
    await cluster.set(setting, usual);
}

const day = 86400;
const settleSeconds = 10; // until what a session had committed has a result: far more than any receiver takes
const { OLDEST_OBJECTS: formerVersion } = process.env;

// A version that never was, and a step from it that takes the locks that upgrades
// take.  The worker serves its objects, as it does those that an upgrade has yet to
// reach.  Into the private installation alone.
export async function makeFormerVersion() {
    const { stdout } = await run(path.join(process.env.BINDIR, "pg_config"), ["--sharedir"]);
    const directory = path.join(stdout.trim(), "extension");
    const version = fs.readFileSync(path.join(directory, "osmtalk.control"), "utf8").match(/^default_version *= *'(.*)'/m)[1];
    fs.copyFileSync(path.join(directory, `osmtalk--${version}.sql`), path.join(directory, `osmtalk--${formerVersion}.sql`));
    fs.writeFileSync(path.join(directory, `osmtalk--${formerVersion}--${version}.sql`),
        "ALTER TABLE osmtalk.outbox ADD COLUMN of_the_new_version int;\n" +
        "ALTER TABLE osmtalk.calls ADD COLUMN of_the_new_version int;\n");
}

// Seconds that a statement took, of the longest of its kind.
export const longest = {};

async function timed({ cluster, patience, complain }, what, sql, database) {
    const from = performance.now();
    await cluster.sql(sql, database);
    const seconds = (performance.now() - from) / 1000;
    longest[what] = Math.max(longest[what] ?? 0, seconds);
    if (seconds > patience) complain(`${what} took ${seconds.toFixed(2)} s`);
}

export const faults = {
    "kill -9 of the worker": {
        weight: 20, endsWorker: true, endsServer: true,
        async strike({ cluster }) { kill(await cluster.workerPid()); },
    },
    "kill -9 of a session": {
        weight: 12, endsWorker: true, endsServer: true,
        async strike({ cluster, random }) {
            const pids = await cluster.sessionPids();
            if (pids.length > 0) kill(pids[random.integer(0, pids.length - 1)]);
        },
    },
    "immediate stop": {
        weight: 10, endsWorker: true, endsServer: true,
        async strike({ cluster }) {
            await cluster.stop("immediate");
            await cluster.start();
        },
    },
    "fast restart": {
        weight: 6, endsWorker: true, endsServer: true,
        async strike({ cluster }) {
            await cluster.stop("fast");
            await cluster.start();
        },
    },
    "termination of the worker": {
        weight: 12, endsWorker: true,
        async strike({ cluster }) { await cluster.sql(`SELECT pg_terminate_backend(${await cluster.workerPid()})`); },
    },
    "cancel of the worker": {
        weight: 6,
        async strike({ cluster, random }) {
            const pid = await cluster.workerPid();
            for (let i = 0; i < 20; i++) {
                kill(pid, "SIGINT");
                await sleep(random.between(1, 10));
            }
        },
    },
    "SIGSTOP of the worker": {
        weight: 8,
        async strike({ cluster, random }) {
            const pid = await cluster.workerPid();
            kill(pid, "SIGSTOP");
            await sleep(random.between(200, 2500));
            kill(pid, "SIGCONT");
        },
    },
    "read-only mode": {
        weight: 6,
        strike: (context) => setForAWhile(context, "default_transaction_read_only", "on", "off"),
    },
    "full disk": {
        weight: 6, endsWorker: true, endsServer: true, needs: "disk",
        async strike({ cluster, random, disk }) {
            const file = path.join(disk, "ballast");
            const fd = fs.openSync(file, "w");
            const block = Buffer.alloc(1 << 20, "x");
            const howLong = random.between(500, 1500);
            let since = null;
            cluster.diskFull = true; // processes that panic are the server's own business
            try {
                while (since === null || Date.now() - since < howLong)
                    try {
                        for (;;) fs.writeSync(fd, block);
                    } catch (error) {
                        if (error.code !== "ENOSPC") throw error;
                        since ??= Date.now();
                        await sleep(20);
                    }
            } finally {
                fs.closeSync(fd);
                fs.unlinkSync(file);
            }
            await cluster.startUnlessRunning();
        },
    },
    "a sibling database comes, is upgraded and goes": {
        weight: 6,
        // its events are nobody's, and the receiver does not note them
        async strike(context) {
            const { cluster, random, url, complain } = context;
            const send = (n) => `SELECT count(osmtalk.send_test_event('org')) FROM generate_series(1, ${n})`;
            await cluster.sql("CREATE DATABASE sibling");
            await cluster.sql(`CREATE EXTENSION osmtalk VERSION '${formerVersion}'`, "sibling");
            await cluster.sql(`INSERT INTO osmtalk.org_settings (org_id, default_webhook_url) VALUES ('org', '${url}/sibling')`, "sibling");
            await cluster.sql(send(random.integer(1, 500)), "sibling");
            await timed(context, "ALTER EXTENSION UPDATE", "ALTER EXTENSION osmtalk UPDATE", "sibling");
            await cluster.sql(send(20), "sibling");
            if (await cluster.value("SELECT osmtalk.wait_until_drained('20 s')", "sibling") !== "t")
                complain("after ALTER EXTENSION UPDATE the sibling's events are not delivered");
            if (random.chance(0.5)) {
                await cluster.sql(send(random.integer(1, 500)), "sibling");
                await timed(context, "DROP EXTENSION", "DROP EXTENSION osmtalk", "sibling");
                await cluster.sql("CREATE EXTENSION osmtalk", "sibling");
            }
            await timed(context, "DROP DATABASE", "DROP DATABASE sibling WITH (FORCE)");
        },
    },
    "promotion of a standby": {
        weight: 6, endsWorker: true, endsServer: true, patience: 5,
        strike: ({ cluster, random }) => cluster.failOver(random.between(0, 1000)),
    },
    "a step of the clock, and back": {
        weight: 8, endsWorker: true, // perhaps
        // What is committed while it is wrong, and what it meets, waits no longer for that.
        async strike({ cluster, random, complain }) {
            const step = random.between(1, day) * (random.chance(0.5) ? 1 : -1);
            const settled = async (when) => {
                if (!await cluster.settles(settleSeconds))
                    complain(`${when}: events without a result ${settleSeconds} s after (${step.toFixed(0)} s)`);
            };
            cluster.setClock(step);
            const seen = await cluster.numberOf("SELECT extract(epoch FROM clock_timestamp())") - Date.now() / 1000;
            if (Math.abs(seen - step) > 10) complain(`the server's clock is off by ${seen.toFixed(0)} s instead of ${step.toFixed(0)} s`);
            await settled("a step of the clock");
            if (random.chance(0.3)) {
                await cluster.sql(`SELECT pg_terminate_backend(${await cluster.workerPid()})`);
                await settled("an end of the worker after a step of the clock");
            }
            await sleep(random.between(0, 500));
            cluster.setClock(0);
            await settled("the clock set right");
        },
    },
    "sending off and on": {
        weight: 4,
        strike: (context) => setForAWhile(context, "osmtalk.enabled", "off", "on"),
    },
    "more and fewer workers": {
        weight: 6,
        strike: (context) => setForAWhile(context, "osmtalk.workers", String(context.random.integer(2, 4)), "1"),
    },
    "a vacuum that takes the table": {
        weight: 4,
        // one that others keep out gives up
        async strike({ cluster }) {
            await cluster.sql("SET lock_timeout = '2s';\nVACUUM FULL osmtalk.outbox").catch((error) => {
                if (!/lock timeout/.test(error.message)) throw error;
            });
        },
    },
};
