//
// isolation.mjs - what sick endpoints cost the healthy ones
//
// 10 % of the events go to endpoints that hang, refuse, reset or answer 500
// slowly, 1 % to names that do not resolve; against the same healthy events
// alone.  Twice: as a burst, for healthy events/s from the first second, and
// paced, for the time from commit to arrival, also from the first second.
//

import { interleaved, line, ratios } from "../figures.mjs";
import { latencies, pgbench } from "../pgbench.mjs";
import { sleep } from "../process.mjs";
import { Nginx, Recorder, Sick } from "../receivers.mjs";
import { Cluster } from "../server.mjs";

const healthyEndpoints = 10;
const isHealthy = "i % 100 <> 0 AND i % 10 <> 5";

async function campaigns(database, healthyUrls, sick) {
    await database.campaigns("healthy_", healthyUrls);
    if (sick === null) return;
    await database.campaigns("sick_", sick.urls);
    await database.campaigns("name_", sick.nameUrls);
}

async function burst(ctx, cluster, nginx, sick, events) {
    await cluster.set({ "osmtalk.enabled": "off" });
    const database = await cluster.database();
    await campaigns(database, nginx.urls, sick);
    await database.tidy();
    await nginx.mark();
    await database.enqueue(events, `CASE
            WHEN i % 100 = 0 THEN 'name_' || i / 100 % ${sick?.nameUrls.length ?? 1}
            WHEN i % 10 = 5 THEN 'sick_' || i / 10 % ${sick?.urls.length ?? 1}
            ELSE 'healthy_' || i % ${healthyEndpoints} END`,
        { where: sick === null ? isHealthy : "true" });
    const healthy = await database.number("SELECT count(*) FROM osmtalk.events WHERE campaign_id LIKE 'healthy%'");
    await database.quiet();
    const begun = await database.switchOn();
    const received = await nginx.waitFor(healthy);
    if (received !== healthy) ctx.verify(`${received} requests for ${healthy} events of healthy endpoints`);

    // the last results may not be recorded yet
    let wrong;
    for (let i = 0; i < 100; i++) {
        wrong = await database.check(healthy, { where: "e.campaign_id LIKE 'healthy%'" });
        if (wrong === null) break;
        await sleep(100);
    }
    ctx.verify(wrong);
    const ended = await database.number(`
        SELECT extract(epoch FROM max(a.started_at + a.duration_ms * interval '1 ms'))
          FROM osmtalk.delivery_attempts a JOIN osmtalk.events e ON e.id = a.event_id
         WHERE e.campaign_id LIKE 'healthy%'`);
    const strange = await database.number(`
        SELECT count(*) FROM osmtalk.delivery_attempts a JOIN osmtalk.events e ON e.id = a.event_id
         WHERE e.campaign_id NOT LIKE 'healthy%' AND (a.error IS NULL OR a.attempt > 1)`);
    if (strange !== 0) ctx.verify(`${strange} events of sick endpoints succeeded or were tried twice`);
    if (process.env.DEBUG)
        console.error(await database.query(`SELECT left(e.campaign_id, 4), a.http_status, a.error, count(*), min(duration_ms)::int, max(duration_ms)::int
            FROM osmtalk.delivery_attempts a JOIN osmtalk.events e ON e.id = a.event_id GROUP BY 1,2,3 ORDER BY 1`));
    await database.drop();
    return healthy / (ended - begun);
}

async function paced(ctx, cluster, recorder, sick, seconds) {
    const rate = 1000; // of healthy ones
    const sickShare = sick === null ? 0 : 0.11;
    await cluster.set({ "osmtalk.enabled": "on" });
    const database = await cluster.database();
    const loads = [{ first: 0, weight: 89 }];
    const room = rate * seconds * 2; // for the healthy ones
    const sickRoom = Math.round(room / 4);
    const names = (prefix, urls) => urls.map((_, i) => `${prefix}${i}`);
    await campaigns(database, recorder.urls, sick);
    await database.query(`SELECT bench.place_calls('{${names("healthy_", recorder.urls)}}', 0, ${room})`);
    if (sick !== null) {
        await database.query(`SELECT bench.place_calls('{${names("sick_", sick.urls)}}', ${room}, ${sickRoom})`);
        await database.query(`SELECT bench.place_calls('{${names("name_", sick.nameUrls)}}', ${room + sickRoom}, ${sickRoom})`);
        loads.push({ first: room, weight: 10 }, { first: room + sickRoom, weight: 1 });
    }
    await database.tidy();
    await pgbench(database, loads, { clients: 8, seconds, rate: Math.round(rate / (1 - sickShare)) });

    const where = "e.campaign_id LIKE 'healthy%'";
    const healthy = await database.number(`SELECT count(*) FROM osmtalk.events e WHERE ${where}`);
    let wrong;
    for (let i = 0; i < 600; i++) {
        wrong = await database.check(healthy, { where });
        if (wrong === null) break;
        await sleep(100);
    }
    ctx.verify(wrong);
    const measured = await latencies(database, recorder, { where });
    if (measured.count !== healthy || measured.distinct !== healthy)
        ctx.verify(`${healthy} events of healthy endpoints: ${measured.count} arrived, ${measured.distinct} different ones`);
    await database.drop();
    return measured;
}

export async function isolation(ctx) {
    const cluster = await Cluster.create();
    const nginx = await Nginx.start(healthyEndpoints);
    const recorder = await Recorder.start(healthyEndpoints);
    const ten = await Sick.start(10);
    const many = await Sick.start(500);
    const sicknesses = [null, ten, many];

    const events = ctx.size(50000);
    const seconds = ctx.seconds(20);
    const [alone, with10, with500] = await interleaved(ctx.pairs,
        ...sicknesses.map((sick) => (round) => {
            ctx.progress(`burst, ${sick?.endpoints ?? 0} sick endpoints, round ${round + 1}`);
            return burst(ctx, cluster, nginx, sick, events);
        }));
    const [quiet, paced10, paced500] = await interleaved(ctx.pairs,
        ...sicknesses.map((sick) => (round) => {
            ctx.progress(`paced, ${sick?.endpoints ?? 0} sick endpoints, round ${round + 1}`);
            return paced(ctx, cluster, recorder, sick, seconds);
        }));

    for (const receiver of [nginx, recorder, ten, many]) await receiver.stop();
    await cluster.destroy();

    ctx.report(line("isolation", "healthy endpoints alone", "events/s", alone));
    ctx.report(line("isolation", "with 10 sick endpoints", "events/s", with10, { ratio: ratios(with10, alone), bar: "≥ 0.90 × alone" }));
    ctx.report(line("isolation", "with 500 sick endpoints", "events/s", with500, { ratio: ratios(with500, alone), bar: "≥ 0.90 × alone" }));
    for (const p of ["p50", "p99"]) {
        const of = (runs) => runs.map((r) => r[p]);
        const bar = p === "p99" ? { bar: "≤ 1.10 × alone" } : {};
        ctx.report(line("isolation", `1,000/s, healthy alone, ${p}`, "ms", of(quiet)));
        ctx.report(line("isolation", `1,000/s, with 10 sick, ${p}`, "ms", of(paced10), { ratio: ratios(of(paced10), of(quiet)), ...bar }));
        ctx.report(line("isolation", `1,000/s, with 500 sick, ${p}`, "ms", of(paced500), { ratio: ratios(of(paced500), of(quiet)), ...bar }));
    }
}
