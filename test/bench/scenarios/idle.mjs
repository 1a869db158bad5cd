//
// idle.mjs - what a database costs in which nothing happens
//

import { line } from "../figures.mjs";
import { fineCpuOf, sleep } from "../process.mjs";
import { Nginx } from "../receivers.mjs";
import { Cluster } from "../server.mjs";

export async function idle(ctx) {
    const seconds = ctx.scale < 1 ? 4 : 10;
    let cluster;
    try {
        cluster = await Cluster.create({}, { preload: "osmtalk,pg_stat_statements" });
        await cluster.admin.query("CREATE EXTENSION pg_stat_statements");
    } catch (error) {
        ctx.note(`idle: skipped, needs pg_stat_statements to count queries (${error.message.split("\n")[0]})`);
        return;
    }
    const nginx = await Nginx.start(1);
    const runs = [];
    for (let i = 0; i < ctx.repeats; i++) {
        ctx.progress(`round ${i + 1}`);
        // one that has worked before
        const database = await cluster.database();
        await database.campaigns("cmp_", nginx.urls);
        await database.enqueue(1000, "'cmp_0'");
        await database.waitUntilDrained();
        ctx.verify(await database.check(1000));
        await sleep(2000);
        const queries = () => cluster.admin.number(`
            SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
             WHERE d.datname = '${database.name}' AND s.toplevel`);
        const cpu = () => database.workers.map(fineCpuOf).reduce((a, b) => a + b, 0);
        const [queriesBefore, cpuBefore, before] = [await queries(), cpu(), performance.now()];
        await sleep(seconds * 1000);
        const elapsed = (performance.now() - before) / 1000;
        runs.push({ cpu: (cpu() - cpuBefore) / elapsed * 100, queries: (await queries() - queriesBefore) / elapsed });
        await database.drop();
    }
    await nginx.stop();
    await cluster.destroy();

    ctx.report(line("idle", "worker's queries", "1/s", runs.map((r) => r.queries), { bar: "≤ 1.05" }));
    ctx.report(line("idle", "worker's CPU", "% of a core", runs.map((r) => r.cpu), { bar: "≤ 0.1" }));
}
