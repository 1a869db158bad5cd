//
// workers.mjs - more than one worker for a database
//

import { interleaved, line, ratios } from "../figures.mjs";
import { Nginx } from "../receivers.mjs";
import { sleep } from "../process.mjs";
import { Cluster } from "../server.mjs";
import { drainOnce } from "./drain.mjs";

export async function workers(ctx) {
    const events = ctx.size(50000);
    const cluster = await Cluster.create();
    if (await cluster.admin.value("SELECT count(*) FROM pg_settings WHERE name = 'osmtalk.workers'") === "0") {
        ctx.note("workers: skipped, there is no setting osmtalk.workers");
        await cluster.destroy();
        return;
    }
    const nginx = await Nginx.start(100);
    const [one, two] = await interleaved(ctx.pairs,
        ...[1, 2].map((n) => (round) => {
            ctx.progress(`pair ${round + 1}, ${n}`);
            return drainOnce(ctx, cluster, nginx, events, { workers: n });
        }));

    // 1, 4, 2 while they deliver; drainOnce() counts
    const changing = [];
    for (let i = 0; i < ctx.repeats; i++) {
        ctx.progress(`changing, round ${i + 1}`);
        changing.push(await drainOnce(ctx, cluster, nginx, events, {
            workers: 1,
            during: async (database) => {
                for (const [part, n] of [[0.2, 4], [0.6, 2]]) {
                    while (await nginx.received() < part * events) await sleep(5);
                    await cluster.set({ "osmtalk.workers": n });
                }
                await database.findWorkers(2);
            },
        }));
    }
    await nginx.stop();
    await cluster.destroy();

    const rate = (runs) => runs.map((r) => r.rate);
    ctx.report(line("workers", "one worker, 100 endpoints", "events/s", rate(one)));
    ctx.report(line("workers", "two workers, 100 endpoints", "events/s", rate(two), { ratio: ratios(rate(two), rate(one)), bar: "≥ 1 × one" }));
    ctx.report(line("workers", "1, 4, 2 workers while they deliver", "events/s", rate(changing)));
}
