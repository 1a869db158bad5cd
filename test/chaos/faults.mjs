//
// faults.mjs - what production servers meet, one at a time
//
// A fault leaves the server as it found it: running, writable, with room on
// its disk.  What is to be known of each for judging it afterwards: whether it
// ends the worker, so that requests in flight are made again, and whether it
// ends the server.

import fs from "node:fs";
import path from "node:path";

import { sleep } from "../bench/process.mjs";

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
    "a sibling database comes and goes": {
        weight: 6,
        async strike({ cluster, random }) {
            await cluster.sql("CREATE DATABASE sibling");
            await cluster.sql("CREATE EXTENSION osmtalk", "sibling");
            await cluster.sql("INSERT INTO osmtalk.org_settings (org_id) VALUES ('org')", "sibling");
            await sleep(random.between(50, 500));
            if (random.chance(0.5)) {
                await cluster.sql("DROP EXTENSION osmtalk", "sibling");
                await cluster.sql("CREATE EXTENSION osmtalk", "sibling");
            }
            await cluster.sql("DROP DATABASE sibling WITH (FORCE)");
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
