//
// backlog.mjs - many events waiting: for one endpoint, and for a dead one
// ahead of healthy ones
//

import { interleaved, line, ratios } from "../figures.mjs";
import { sleep } from "../process.mjs";
import { Nginx, refusingUrl, startHanging } from "../receivers.mjs";
import { Cluster } from "../server.mjs";

// The rate over the first so many deliveries of a backlog.
async function sampleOf(ctx, cluster, nginx, waiting, sample) {
    await cluster.set({ "osmtalk.enabled": "off" });
    const database = await cluster.database();
    await database.campaigns("cmp_", nginx.urls);
    const meter = await database.meter(); // that the worker finds them is part of it
    await database.enqueue(waiting, "'cmp_0'");
    await database.query("CHECKPOINT");
    await database.quiet();
    await nginx.mark();
    const begun = await database.switchOn();
    const received = await nginx.waitFor(sample);
    await database.enabled(false);
    for (let i = 0; i < 200 && await database.value("SELECT sum(in_flight) FROM osmtalk.worker_status") !== "0"; i++)
        await sleep(50);
    await database.quiet();
    const cost = await meter();

    if (received < sample) ctx.verify(`${received} of ${sample} events were delivered`);
    const [[attempts, delivered, remaining, ended]] = await database.session.rows(`
        SELECT (SELECT count(*) FROM osmtalk.delivery_attempts),
               (SELECT count(DISTINCT event_id) FROM osmtalk.delivery_attempts WHERE http_status = 204),
               (SELECT count(*) FROM osmtalk.outbox),
               (SELECT extract(epoch FROM max(at))
                  FROM (SELECT started_at + duration_ms * interval '1 ms' AS at FROM osmtalk.delivery_attempts
                         ORDER BY 1 LIMIT ${sample}) first)`);
    const sent = await nginx.received();
    if (Number(attempts) !== sent || Number(delivered) !== sent || Number(remaining) !== waiting - sent)
        ctx.verify(`of ${waiting} events ${sent} were sent: ${attempts} attempts, ${delivered} delivered, ${remaining} remain`);
    await database.drop();
    return { rate: sample / (Number(ended) - begun), anon: cost.anon };
}

// Healthy events enqueued behind others for a dead endpoint, while the worker
// is at those.
async function behindDead(ctx, cluster, nginx, deadUrl, dead, healthy) {
    await cluster.set({ "osmtalk.enabled": "on" });
    const database = await cluster.database();
    await database.campaigns("dead_", [deadUrl]);
    await database.campaigns("cmp_", nginx.urls);
    await database.query("CHECKPOINT");
    await nginx.mark();
    const meter = await database.meter();
    await database.enqueue(dead, "'dead_0'");
    await sleep(1000);
    const committed = await database.enqueue(healthy, "'cmp_0'");
    const received = await nginx.waitFor(healthy);
    const cost = await meter();

    if (received !== healthy) ctx.verify(`${received} requests for ${healthy} healthy events behind ${dead} dead ones`);
    const where = "e.campaign_id = 'cmp_0'";
    let wrong;
    for (let i = 0; i < 100; i++) {
        wrong = await database.check(healthy, { where });
        if (wrong === null) break;
        await sleep(100);
    }
    ctx.verify(wrong);
    const [[first, last]] = await database.session.rows(`
        SELECT extract(epoch FROM min(a.started_at + a.duration_ms * interval '1 ms')),
               extract(epoch FROM max(a.started_at + a.duration_ms * interval '1 ms'))
          FROM osmtalk.delivery_attempts a JOIN osmtalk.events e ON e.id = a.event_id WHERE ${where}`);
    await database.drop();
    return { first: Number(first) - committed, rate: healthy / (Number(last) - committed), anon: cost.anon };
}

export async function backlog(ctx) {
    const few = ctx.size(20000);
    const many = few * 50;
    const cluster = await Cluster.create();
    const nginx = await Nginx.start(1);
    const hanging = await startHanging(1);

    const [short, long] = await interleaved(ctx.pairs,
        (round) => { ctx.progress(`pair ${round + 1}, ${few}`); return sampleOf(ctx, cluster, nginx, few, few); },
        (round) => { ctx.progress(`pair ${round + 1}, ${many}`); return sampleOf(ctx, cluster, nginx, many, few); });
    const [hang, refuse] = await interleaved(ctx.repeats,
        ...[hanging.urls[0], refusingUrl].map((url) => (round) => {
            ctx.progress(`dead endpoint, round ${round + 1}`);
            return behindDead(ctx, cluster, nginx, url, few * 45, few * 5);
        }));

    await nginx.stop();
    await hanging.stop();
    await cluster.destroy();

    const of = (runs, key) => runs.map((r) => r[key]);
    ctx.report(line("backlog", `${few} waiting`, "events/s", of(short, "rate")));
    ctx.report(line("backlog", `${many} waiting, the first ${few}`, "events/s", of(long, "rate"),
        { ratio: ratios(of(long, "rate"), of(short, "rate")), bar: `≥ 0.90 × at ${few}` }));
    ctx.report(line("backlog", `${few} waiting: worker's memory, RssAnon`, "MB", of(short, "anon"), { bar: "≤ 64" }));
    ctx.report(line("backlog", `${many} waiting: worker's memory, RssAnon`, "MB", of(long, "anon"), { bar: "≤ 64" }));
    for (const [runs, what] of [[hang, "that hangs"], [refuse, "that refuses"]]) {
        const prefix = `${few * 5} healthy behind ${few * 45} for an endpoint ${what}`;
        ctx.report(line("backlog", `${prefix}: first after`, "s", of(runs, "first"), { bar: "≤ 1" }));
        ctx.report(line("backlog", `${prefix}: healthy`, "events/s", of(runs, "rate")));
        ctx.report(line("backlog", `${prefix}: worker's memory, RssAnon`, "MB", of(runs, "anon"), { bar: "≤ 64" }));
    }
}
