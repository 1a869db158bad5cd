//
// descriptors.mjs - more endpoints than a process may have files open
//

import { line } from "../figures.mjs";
import { Nginx } from "../receivers.mjs";
import { Cluster } from "../server.mjs";
import { drainOnce } from "./drain.mjs";

export async function descriptors(ctx) {
    const endpoints = 1500;
    const events = Math.max(2 * endpoints, ctx.size(30000));
    // more in flight than there are descriptors, should the worker have its way
    const cluster = await Cluster.create({ "osmtalk.max_in_flight": 2000 }, { descriptors: 1024 });
    const nginx = await Nginx.start(endpoints);
    const runs = [];
    // drainOnce() counts: none may have failed
    for (let i = 0; i < ctx.repeats; i++) {
        ctx.progress(`round ${i + 1}`);
        runs.push(await drainOnce(ctx, cluster, nginx, events));
    }
    await nginx.stop();
    await cluster.destroy();
    ctx.report(line("descriptors", `${endpoints} endpoints, at most 1024 files`, "events/s", runs.map((r) => r.rate)));
}
