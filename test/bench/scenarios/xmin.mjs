//
// xmin.mjs - a queue under a held snapshot: no dead row can be removed
//
// In ten waves, so that the later ones meet what the earlier ones left dead.
//

import { interleaved, line, ratios } from "../figures.mjs";
import { Nginx } from "../receivers.mjs";
import { Cluster, Session } from "../server.mjs";

const waves = 10;

async function runWaves(ctx, cluster, nginx, wave, held) {
    const database = await cluster.database();
    await database.campaigns("cmp_", nginx.urls);
    await database.tidy();
    await nginx.mark();

    let holder;
    if (held) {
        holder = await Session.open(database.name);
        await holder.query("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM osmtalk.events LIMIT 1");
    }
    const times = [];
    for (let i = 0; i < waves; i++) {
        await database.enabled(false);
        await database.enqueue(wave, "'cmp_0'");
        await database.query("CHECKPOINT");
        await database.quiet();
        const begun = await database.switchOn();
        await nginx.waitFor((i + 1) * wave);
        await database.waitUntilDrained();
        times.push(await database.number(`
            SELECT extract(epoch FROM max(started_at + duration_ms * interval '1 ms')) - ${begun} FROM osmtalk.delivery_attempts`));
    }
    ctx.verify(await database.check(waves * wave));
    const received = await nginx.received();
    if (received !== waves * wave) ctx.verify(`${received} requests for ${waves * wave} events`);
    if (held) {
        const unseen = await holder.number("SELECT count(*) FROM osmtalk.events");
        if (unseen !== 0) ctx.verify("the snapshot was not held");
        await holder.close();
    }
    await database.drop();
    return { rate: waves * wave / times.reduce((a, b) => a + b), last: wave / times.at(-1) };
}

export async function xmin(ctx) {
    const wave = ctx.size(50000);
    const cluster = await Cluster.create();
    const nginx = await Nginx.start(1);
    const [free, held] = await interleaved(ctx.pairs,
        (round) => { ctx.progress(`pair ${round + 1}, free`); return runWaves(ctx, cluster, nginx, wave, false); },
        (round) => { ctx.progress(`pair ${round + 1}, held`); return runWaves(ctx, cluster, nginx, wave, true); });
    await nginx.stop();
    await cluster.destroy();

    const of = (runs, key) => runs.map((r) => r[key]);
    ctx.report(line("held xmin", `${waves * wave} events, no snapshot held`, "events/s", of(free, "rate")));
    ctx.report(line("held xmin", `${waves * wave} events under a held snapshot`, "events/s", of(held, "rate"),
        { ratio: ratios(of(held, "rate"), of(free, "rate")), bar: "≥ 0.90 × without" }));
    ctx.report(line("held xmin", `the last ${wave} of them`, "events/s", of(held, "last"),
        { ratio: ratios(of(held, "last"), of(free, "last")) }));
}
