//
// enqueue.mjs - what finalising a call costs the application
//

import fs from "node:fs";
import path from "node:path";

import { interleaved, line, median, ratios } from "../figures.mjs";
import { pgbench } from "../pgbench.mjs";
import { watchMemory } from "../process.mjs";
import { Cluster, Session } from "../server.mjs";

const { SRC, STAGE } = process.env;

// What a commit pays at the least: 8 kB written and flushed.  Milliseconds.
function flushTime() {
    const file = path.join(STAGE, "flush");
    const fd = fs.openSync(file, "w");
    const block = Buffer.alloc(8192, "x");
    const times = [];
    fs.writeSync(fd, Buffer.alloc(1 << 20));
    fs.fsyncSync(fd);
    for (let i = 0; i < 100; i++) {
        const before = performance.now();
        fs.writeSync(fd, block, 0, block.length, i * block.length);
        fs.fdatasyncSync(fd);
        times.push(performance.now() - before);
    }
    fs.closeSync(fd);
    fs.unlinkSync(file);
    return median(times);
}

async function single(ctx, cluster) {
    const clients = 2;
    const counts = { off: ctx.size(20000, 1000), on: ctx.size(3000, 100) }; // for each client
    const perRound = (counts.off + counts.on) * clients;
    const flushes = [];

    await cluster.set({ "osmtalk.enabled": "off" });
    const database = await cluster.database();
    await database.campaigns("cmp_", ["http://127.0.0.1:1/hook"]);
    await database.query(fs.readFileSync(path.join(SRC, "test/bench/minimal.sql"), "utf8"));
    await database.query(`SELECT bench.place_calls('{cmp_0}', 0, ${perRound * ctx.pairs})`);
    await database.query(`SELECT minimal.place_calls(0, ${perRound * ctx.pairs})`);
    await database.tidy();

    const side = (schema, synchronousCommit) => async (round) => {
        const first = round * perRound + (synchronousCommit === "on" ? counts.off * clients : 0);
        await database.query("CHECKPOINT");
        const { tps } = await pgbench(database, [{ schema, first }],
            { clients, transactions: counts[synchronousCommit], synchronousCommit });
        return tps;
    };
    const [off, minimalOff, on, minimalOn] = await interleaved(ctx.pairs,
        (round) => { ctx.progress(`pair ${round + 1}`); return side("osmtalk", "off")(round); },
        side("minimal", "off"), side("osmtalk", "on"),
        async (round) => { flushes.push(flushTime()); return side("minimal", "on")(round); });

    const calls = perRound * ctx.pairs;
    for (const schema of ["osmtalk", "minimal"]) {
        const [[events, waiting, completed]] = await database.session.rows(`
            SELECT (SELECT count(DISTINCT call_id) FROM ${schema}.events), (SELECT count(*) FROM ${schema}.outbox),
                   (SELECT count(*) FROM ${schema}.leads WHERE status = 'completed' AND disposition = 'completed')`);
        if ([events, waiting, completed].some((n) => Number(n) !== calls))
            ctx.verify(`${calls} calls were finalised in ${schema}: ${events} events, ${waiting} outbox rows, ${completed} leads`);
    }
    await database.drop();

    ctx.report(line("enqueue", "with the extension, synchronous_commit=off", "calls/s", off,
        { ratio: ratios(off, minimalOff), bar: "≥ 0.80 × minimal" }));
    ctx.report(line("enqueue", "with a minimal trigger, synchronous_commit=off", "calls/s", minimalOff));
    ctx.report(line("enqueue", "with the extension, synchronous_commit=on", "calls/s", on, { ratio: ratios(on, minimalOn) }));
    ctx.report(line("enqueue", "with a minimal trigger, synchronous_commit=on", "calls/s", minimalOn));
    ctx.report(line("enqueue", "8 kB written and flushed", "ms", flushes));
}

async function bulk(ctx, cluster) {
    const few = ctx.size(10000, 100);
    const many = few * 10;
    const runs = [];

    for (let i = 0; i < ctx.repeats; i++) {
        ctx.progress(`bulk, round ${i + 1}`);
        const database = await cluster.database();
        await database.campaigns("cmp_", ["http://127.0.0.1:1/hook"]);
        await database.query(`SELECT bench.place_calls('{cmp_0}', 0, ${few + many})`);
        await database.tidy();
        const finalise = async (first, count) => {
            const session = await Session.open(database.name); // a backend of its own, for its memory
            const memory = watchMemory([session.pid]);
            const before = performance.now();
            await session.query(`
                UPDATE osmtalk.calls SET answered_at = now() - interval '42 s', ended_at = now(), sip_status_code = 200
                 WHERE id IN (SELECT 'call_' || i FROM generate_series(${first}, ${first + count - 1}) i)`);
            const seconds = (performance.now() - before) / 1000;
            const peak = memory();
            await session.close();
            return { seconds, perCall: seconds * 1e6 / count, ...peak };
        };
        runs.push({ few: await finalise(0, few), many: await finalise(few, many) });
        const events = await database.number("SELECT count(DISTINCT call_id) FROM osmtalk.events e JOIN osmtalk.outbox o ON o.event_id = e.id");
        if (events !== few + many) ctx.verify(`${few + many} calls were finalised in bulk, ${events} events`);
        await database.drop();
    }

    const perCall = (key) => runs.map((r) => r[key].perCall);
    ctx.report(line("bulk", `${many} calls by one statement`, "s", runs.map((r) => r.many.seconds)));
    ctx.report(line("bulk", `${few} calls by one statement`, "µs/call", perCall("few")));
    ctx.report(line("bulk", `${many} calls by one statement`, "µs/call", perCall("many"),
        { ratio: ratios(perCall("many"), perCall("few")), bar: "≤ 1.25 × a tenth of them" }));
    ctx.report(line("bulk", `${few} calls: backend's memory, RssAnon`, "MB", runs.map((r) => r.few.anon)));
    ctx.report(line("bulk", `${many} calls: backend's memory, RssAnon`, "MB", runs.map((r) => r.many.anon)));
    ctx.report(line("bulk", `${many} calls: backend's memory, VmHWM`, "MB", runs.map((r) => r.many.high)));
}

export async function enqueue(ctx) {
    const cluster = await Cluster.create();
    await single(ctx, cluster);
    await bulk(ctx, cluster);
    await cluster.destroy();
}
