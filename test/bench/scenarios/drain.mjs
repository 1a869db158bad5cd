//
// drain.mjs - how fast a backlog is delivered, and how near that is to what
// one process could do at best: bound A (libcurl alone) and bound B (the
// server alone) in the same rounds
//

import fs from "node:fs";
import path from "node:path";

import { line, ratios } from "../figures.mjs";
import { run } from "../process.mjs";
import { Nginx } from "../receivers.mjs";
import { bin, Cluster, secret } from "../server.mjs";

const { SOCKETS, SRC, STAGE } = process.env;

// Enqueues and delivers in a database of its own.  From "switch": sending is
// off while the events are enqueued, and the time runs from when it is switched
// on; from "commit": it is on throughout.
export async function drainOnce(ctx, cluster, nginx, events, { from = "switch", urls = nginx.urls, workers, during } = {}) {
    await cluster.set({ "osmtalk.enabled": from === "switch" ? "off" : "on", ...(workers ? { "osmtalk.workers": workers } : {}) });
    const database = await cluster.database("bench", { workers });
    await database.campaigns("cmp_", urls);
    await database.tidy();
    await nginx.mark();

    let meter;
    let begun;
    if (from === "switch") {
        await database.enqueue(events, `'cmp_' || i % ${urls.length}`);
        await database.quiet();
        meter = await database.meter();
        begun = await database.switchOn();
    } else {
        meter = await database.meter();
        begun = await database.enqueue(events, `'cmp_' || i % ${urls.length}`);
    }
    await Promise.all([nginx.waitFor(events), during?.(database)]);
    const ended = await database.waitUntilDrained();
    const cost = await meter();
    ctx.verify(await database.check(events));
    const received = await nginx.received();
    if (received !== events) ctx.verify(`${received} requests for ${events} events`);
    await database.drop();
    return {
        rate: events / (ended - begun),
        workerCpu: cost.worker * 1e6 / events,
        serverCpu: cost.server * 1e6 / events,
        wal: cost.wal / events,
        anon: cost.anon,
        high: cost.high,
    };
}

// --- the bounds -----------------------------------------------------------------

export async function compileBoundA() {
    const program = path.join(STAGE, "bound_a");
    await run("gcc", ["-O2", "-o", program, path.join(SRC, "test/bench/bound_a.c"), "-lcurl", "-lcrypto"]);
    return program;
}

// The same bodies, out of the table.
export async function dumpEvents(cluster, events, file) {
    await cluster.set({ "osmtalk.enabled": "off" });
    const database = await cluster.database();
    await database.campaigns("cmp_", ["http://127.0.0.1:1/hook"]);
    await database.enqueue(events, "'cmp_0'");
    const { stdout } = await run(bin("psql"), ["-X", "-q", "-A", "-t", "-F", "\t", "-h", SOCKETS, "-U", "postgres",
        "-d", database.name, "-c", "SELECT id, body FROM osmtalk.events"]);
    fs.writeFileSync(file, stdout);
    await database.drop();
}

async function boundA(program, file, url, events, inFlight, loop) {
    const { stdout } = await run(program, [file, url, secret, String(events), String(inFlight), loop]);
    return JSON.parse(stdout);
}

async function boundB(ctx, database, events) {
    const { stdout } = await run(bin("psql"), ["-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1",
        "-v", `events=${events}`, "-h", SOCKETS, "-U", "postgres", "-d", database, "-f", path.join(SRC, "test/bench/bound_b.sql")]);
    const [seconds, recorded, remaining] = stdout.trim().split("\n").at(-1).split("\t").map(Number);
    if (recorded !== events || remaining !== 0) ctx.verify(`bound B recorded ${recorded} of ${events}`);
    return events / seconds;
}

// One round of both; all figures that the report wants.
async function bounds(ctx, program, file, nginx, events) {
    const a = {};
    for (const loop of ["poll", "epoll"])
        for (const inFlight of [32, 64])
            a[`${loop} ${inFlight}`] = await boundA(program, file, nginx.urls[0], events, inFlight, loop);
    const b = await boundB(ctx, "postgres", events);
    const best = Math.max(a["poll 32"].rate, a["epoll 32"].rate);
    return { a, b, bound: 1 / (1 / best + 1 / b) };
}

export async function drain(ctx) {
    const events = ctx.size(50000);
    const cluster = await Cluster.create();
    const program = await compileBoundA();
    const file = path.join(STAGE, "events");
    const one = await Nginx.start(1);
    const hundred = await Nginx.start(100);
    const rounds = [];

    await dumpEvents(cluster, events, file);
    for (let i = 0; i < ctx.repeats; i++) {
        ctx.progress(`round ${i + 1}`);
        rounds.push({
            ...await bounds(ctx, program, file, one, events),
            one: await drainOnce(ctx, cluster, one, events),
            hundred: await drainOnce(ctx, cluster, hundred, events),
            throughout: await drainOnce(ctx, cluster, one, events, { from: "commit" }),
        });
    }
    await one.stop();
    await hundred.stop();
    await cluster.destroy();

    const of = (pick) => rounds.map(pick);
    for (const inFlight of [32, 64])
        for (const loop of ["poll", "epoll"])
            ctx.report(line("bound", `A: libcurl alone, ${loop}, ${inFlight} in flight`, "events/s", of((r) => r.a[`${loop} ${inFlight}`].rate)));
    for (const loop of ["poll", "epoll"])
        ctx.report(line("bound", `A: its CPU, ${loop}, 32 in flight`, "µs/event", of((r) => r.a[`${loop} 32`].cpu_us)));
    ctx.report(line("bound", "B: the server alone", "events/s", of((r) => r.b)));
    ctx.report(line("bound", "1 / (1/A + 1/B), A at 32 in flight", "events/s", of((r) => r.bound)));
    for (const [key, what, bar] of [
        ["one", "one endpoint", "≥ 0.80 × bound"],
        ["hundred", "100 endpoints", "≥ 0.70 × bound"],
        ["throughout", "one endpoint, from the commit, never off", undefined]]) {
        const rates = of((r) => r[key].rate);
        ctx.report(line("drain", what, "events/s", rates, { ratio: ratios(rates, of((r) => r.bound)), bar }));
        ctx.report(line("drain", `${what}: worker's CPU`, "µs/event", of((r) => r[key].workerCpu)));
        ctx.report(line("drain", `${what}: rest of the server's CPU`, "µs/event", of((r) => r[key].serverCpu)));
        ctx.report(line("drain", `${what}: WAL`, "bytes/event", of((r) => r[key].wal)));
        ctx.report(line("drain", `${what}: worker's memory, RssAnon`, "MB", of((r) => r[key].anon)));
        ctx.report(line("drain", `${what}: worker's memory, VmHWM`, "MB", of((r) => r[key].high)));
    }
}
