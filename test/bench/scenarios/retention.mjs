//
// retention.mjs - what it does to others when a slot of old events is emptied
//

import { interleaved, line, ratios } from "../figures.mjs";
import { latencies, pgbench } from "../pgbench.mjs";
import { sleep } from "../process.mjs";
import { Recorder } from "../receivers.mjs";
import { Cluster } from "../server.mjs";

export async function retention(ctx) {
    const rate = 500;
    const seconds = ctx.seconds(15);
    const old = ctx.size(200000, 2000);
    const kept = old / 100; // failed
    const cluster = await Cluster.create();
    const recorder = await Recorder.start(1);

    const side = (emptying) => async (round) => {
        ctx.progress(`pair ${round + 1}, ${emptying ? "while a slot is emptied" : "undisturbed"}`);
        const database = await cluster.database();
        await database.campaigns("cmp_", recorder.urls);
        await database.query(`SELECT bench.place_calls('{cmp_0}', 0, ${rate * seconds * 2})`);
        const slot = await database.number("SELECT min(s) FROM generate_series(0, 15) s WHERE osmtalk.slot_is_over(s::int2)");
        await database.query(`
            INSERT INTO osmtalk.events (type, org_id, body, created_at, slot)
            SELECT 'old', 'acme', bench.body(i), now() - interval '40 days', ${slot} FROM generate_series(1, ${old}) i`);
        await database.query(`
            INSERT INTO osmtalk.delivery_attempts (event_id, attempt, started_at, http_status, slot)
            SELECT id, 1, created_at, CASE WHEN row_number() OVER () <= ${kept} THEN 500 ELSE 204 END, ${slot}
              FROM osmtalk.events WHERE type = 'old'`);
        await database.tidy();
        if (emptying)
            await database.query("UPDATE osmtalk.slots SET filled_since = now() - interval '1 year' WHERE slot >= 0");
        // a new worker looks at once
        await database.query(`SELECT pg_terminate_backend(${database.workers[0]}, 5000)`);
        await database.findWorkers(1);

        const before = performance.now();
        let emptied = 0;
        const watch = (async () => {
            while (emptying && emptied === 0) {
                if (await database.value(`SELECT state FROM osmtalk.retained WHERE slot = ${slot}`) === "empty")
                    emptied = (performance.now() - before) / 1000;
                else if (performance.now() - before > 120000) throw new Error("the slot was not emptied in two minutes");
                else await sleep(100);
            }
        })();
        const { done, latency } = await pgbench(database, [{ first: 0 }], { clients: 4, seconds, rate, log: true });
        await watch;
        await database.waitUntilDrained();
        const arrival = await latencies(database, recorder);
        ctx.verify(await database.check(done, { where: "e.type <> 'old'" }));
        const rest = await database.number("SELECT count(*) FROM osmtalk.events WHERE type = 'old'");
        const expected = emptying ? kept : old;
        if (rest !== expected) ctx.verify(`${expected} old events should have stayed, ${rest} did`);
        await database.drop();
        return { ...latency, arrival, emptied };
    };
    const [quiet, busy] = await interleaved(ctx.repeats, side(false), side(true));
    await recorder.stop();
    await cluster.destroy();

    for (const [what, of] of [
        ["a call finalised at 500/s, p50", (r) => r.p50],
        ["a call finalised at 500/s, p99", (r) => r.p99],
        ["commit to arrival, p50", (r) => r.arrival.p50],
        ["commit to arrival, p99", (r) => r.arrival.p99]]) {
        ctx.report(line("retention", what, "ms", quiet.map(of)));
        ctx.report(line("retention", `${what}, while a slot is emptied`, "ms", busy.map(of),
            { ratio: ratios(busy.map(of), quiet.map(of)) }));
    }
    ctx.report(line("retention", `a slot of ${old.toLocaleString("en-US")} events emptied`, "s", busy.map((r) => r.emptied)));
}
