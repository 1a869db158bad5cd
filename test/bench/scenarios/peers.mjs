//
// peers.mjs - others doing the same: the same bodies, receiver and machine
//

import fs from "node:fs";
import path from "node:path";

import { interleaved, line, ratios } from "../figures.mjs";
import { cpuOfTree, firstLine, run, sleep, start, watchMemory } from "../process.mjs";
import { Nginx } from "../receivers.mjs";
import { Cluster, secret } from "../server.mjs";
import { drainOnce } from "./drain.mjs";

const { SOCKETS, SRC, STAGE } = process.env;

const bodyFunction = () => {
    const setup = fs.readFileSync(path.join(SRC, "test/bench/setup.sql"), "utf8");
    return `CREATE SCHEMA bench; ${setup.match(/CREATE FUNCTION bench\.body[\s\S]*?;\n\n/)[0]}`;
};

// Its directory, or null where it cannot be installed.
async function installGraphile(ctx) {
    const directory = path.join(STAGE, "peers");
    fs.mkdirSync(directory);
    const [major, minor] = process.versions.node.split(".").map(Number);
    // the newest undici that this Node.js can run
    const undici = major > 20 || (major === 20 && minor >= 18) ? "undici@7" : "undici@6";
    try {
        await run("npm", ["install", "--prefix", directory, "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error",
            "graphile-worker@0.18", undici], { cwd: directory });
    } catch (error) {
        ctx.note(`peers: graphile-worker skipped, npm cannot install it (${error.message.split("\n")[0]})`);
        return null;
    }
    return directory;
}

async function graphileOnce(ctx, cluster, directory, nginx, events) {
    const database = await cluster.database("peer", { extension: false });
    await database.query(bodyFunction());
    const child = start(process.execPath, [path.join(SRC, "test/bench/graphile.mjs"), nginx.urls[0], secret, String(events)],
        { cwd: directory, stdio: ["pipe", "pipe", "inherit"],
            env: { ...process.env, PGHOST: SOCKETS, PGUSER: "postgres", PGDATABASE: "peer" } });
    await firstLine(child); // its schema is there
    await database.query(`
        SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(
            SELECT json_populate_record(NULL::graphile_worker.job_spec, json_build_object('identifier', 'deliver',
                'payload', json_build_object('id', 'evt_' || lpad(i::text, 27, '0'), 'body', bench.body(i))))
              FROM generate_series(1, ${events}) i))`);
    await database.tidy();
    await nginx.mark();

    const memory = watchMemory([child.pid]);
    const serverBefore = cpuOfTree(cluster.pid);
    const result = firstLine(child);
    child.stdin.write("go\n");
    const { seconds, cpu, bad } = JSON.parse(await result);
    // completions are recorded after that
    let left = events;
    for (let i = 0; i < 600 && left > 0; i++) {
        left = await database.number("SELECT count(*) FROM graphile_worker.jobs");
        if (left > 0) await sleep(50);
    }
    const server = cpuOfTree(cluster.pid) - serverBefore;
    const peak = memory();
    child.stdin.end();
    await child.ended;
    const received = await nginx.received();
    if (received !== events || bad !== 0 || left !== 0)
        ctx.verify(`graphile-worker: ${received} requests for ${events} jobs, ${bad} not answered with 2xx, ${left} left`);
    await database.drop();
    return { rate: events / seconds, cpu: cpu * 1e6 / events, server: server * 1e6 / events, ...peak };
}

// pg_net, where the server has it: posts jsonb, signs nothing, records answers
// in an unlogged table.
async function pgNet(ctx, nginx, events) {
    const cluster = await Cluster.create({ "pg_net.database_name": "'postgres'", "pg_net.username": "'postgres'", "pg_net.batch_size": 5000 },
        { preload: "pg_net" });
    const rates = [];
    await cluster.admin.query("CREATE EXTENSION pg_net");
    await cluster.admin.query(bodyFunction());
    for (let i = 0; i < ctx.repeats; i++) {
        await nginx.mark();
        await cluster.admin.query(`
            SELECT count(net.http_post('${nginx.urls[0]}', bench.body(i)::jsonb, timeout_milliseconds := 15000))
              FROM generate_series(1, ${events}) i`);
        const begun = performance.now();
        const received = await nginx.waitFor(events);
        rates.push(received / (performance.now() - begun) * 1000);
        if (received !== events) ctx.note(`peers: pg_net sent ${received} of ${events}`);
    }
    await cluster.destroy();
    ctx.report(line("peers", "pg_net, batches of 5,000", "events/s", rates));
}

export async function peers(ctx) {
    const events = ctx.size(50000);
    const cluster = await Cluster.create();
    const nginx = await Nginx.start(1);
    const directory = await installGraphile(ctx);

    if (directory !== null) {
        const [ours, graphile] = await interleaved(ctx.repeats,
            (round) => { ctx.progress(`osmtalk, round ${round + 1}`); return drainOnce(ctx, cluster, nginx, events); },
            (round) => { ctx.progress(`graphile-worker, round ${round + 1}`); return graphileOnce(ctx, cluster, directory, nginx, events); });
        const of = (runs, key) => runs.map((r) => r[key]);
        ctx.report(line("peers", "graphile-worker", "events/s", of(graphile, "rate")));
        ctx.report(line("peers", "graphile-worker: its CPU", "µs/event", of(graphile, "cpu")));
        ctx.report(line("peers", "graphile-worker: server's CPU", "µs/event", of(graphile, "server")));
        ctx.report(line("peers", "graphile-worker: memory, RssAnon", "MB", of(graphile, "anon")));
        ctx.report(line("peers", "graphile-worker: memory, VmHWM", "MB", of(graphile, "high")));
        ctx.report(line("peers", "osmtalk", "events/s", of(ours, "rate"),
            { ratio: ratios(of(ours, "rate"), of(graphile, "rate")), bar: "≥ 1.50 × graphile-worker" }));
        ctx.report(line("peers", "osmtalk: worker's CPU", "µs/event", of(ours, "workerCpu")));
        ctx.report(line("peers", "osmtalk: rest of the server's CPU", "µs/event", of(ours, "serverCpu")));
        ctx.report(line("peers", "osmtalk: worker's memory, RssAnon", "MB", of(ours, "anon"),
            { ratio: ratios(of(ours, "anon"), of(graphile, "anon")), bar: "≤ 0.33 × graphile-worker" }));
    }
    const hasPgNet = await cluster.admin.value("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_net'") !== "0";
    await cluster.destroy();
    if (!hasPgNet) ctx.note("peers: pg_net skipped, this PostgreSQL does not have it");
    else
        await pgNet(ctx, nginx, ctx.size(20000)).catch((error) => ctx.note(`peers: pg_net failed (${error.message.split("\n")[0]})`));
    await nginx.stop();
}
