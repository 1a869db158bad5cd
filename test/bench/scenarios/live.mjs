//
// live.mjs - how soon after its commit an event arrives, at 1,000 a second
//

import { line } from "../figures.mjs";
import { latencies, pgbench } from "../pgbench.mjs";
import { Recorder } from "../receivers.mjs";
import { Cluster } from "../server.mjs";

export async function live(ctx) {
    const rate = 1000;
    const seconds = ctx.seconds(20);
    const cluster = await Cluster.create();
    const recorder = await Recorder.start(1);
    const runs = [];

    for (let i = 0; i < ctx.repeats; i++) {
        ctx.progress(`round ${i + 1}`);
        const database = await cluster.database();
        await database.campaigns("cmp_", recorder.urls);
        // clients do not take exactly equal shares
        await database.query(`SELECT bench.place_calls('{cmp_0}', 0, ${rate * seconds * 2})`);
        await database.tidy();
        const meter = await database.meter();
        const { done } = await pgbench(database, [{ first: 0 }], { clients: 8, seconds, rate });
        await database.waitUntilDrained();
        const cost = await meter();
        const measured = await latencies(database, recorder);
        if (measured.count !== done || measured.distinct !== done)
            ctx.verify(`${done} calls were finalised, ${measured.count} events arrived, ${measured.distinct} different ones`);
        ctx.verify(await database.check(done));
        runs.push({ ...measured, cpu: cost.worker * 1e6 / done });
        await database.drop();
    }
    await recorder.stop();
    await cluster.destroy();

    ctx.report(line("live", "commit to arrival, p50", "ms", runs.map((r) => r.p50), { bar: "≤ 2" }));
    ctx.report(line("live", "commit to arrival, p95", "ms", runs.map((r) => r.p95)));
    ctx.report(line("live", "commit to arrival, p99", "ms", runs.map((r) => r.p99), { bar: "≤ 10" }));
    ctx.report(line("live", "worker's CPU", "µs/event", runs.map((r) => r.cpu)));
}
