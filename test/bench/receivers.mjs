//
// receivers.mjs - what the events are sent to, all of it on 127.0.0.1
//

import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import os from "node:os";
import path from "node:path";

import { firstLine, sleep, start, stop } from "./process.mjs";

const { STAGE } = process.env;
const here = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);

// Ports that nobody has at the moment.
async function freePorts(count) {
    const servers = [];
    for (let i = 0; i < count; i++)
        servers.push(await new Promise((resolve, reject) => {
            const server = net.createServer().listen(0, "127.0.0.1", () => resolve(server)).on("error", reject);
        }));
    const ports = servers.map((server) => server.address().port);
    await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
    return ports;
}

// nginx with this many servers, each on a port of its own, that answer 204, or
// reset the connection.  It logs nothing; it counts.
export class Nginx {
    static count = 0;

    static async start(endpoints = 1, { reset = false } = {}) {
        for (let attempt = 1; ; attempt++) {
            const nginx = new Nginx();
            // another program may take one of the ports first
            if (await nginx.tryStart(endpoints, reset)) return nginx;
            if (attempt === 5) throw new Error(`nginx does not start, see ${nginx.dir}/error.log`);
        }
    }

    async tryStart(endpoints, reset) {
        const [statusPort, ...ports] = await freePorts(endpoints + 1);
        this.dir = path.join(STAGE, `nginx${++Nginx.count}`);
        this.statusPort = statusPort;
        this.urls = ports.map((port) => `http://127.0.0.1:${port}/hook`);
        fs.mkdirSync(this.dir);
        // half of the cores, the other half being the worker's and the server's
        const workers = Math.max(1, os.cpus().length >> 1);
        fs.writeFileSync(path.join(this.dir, "nginx.conf"), `
            daemon off;
            worker_processes ${workers};
            worker_rlimit_nofile 16384;
            pid ${this.dir}/nginx.pid;
            error_log ${this.dir}/error.log;
            events { worker_connections 8192; }
            http {
                access_log off;
                client_body_temp_path ${this.dir}/body;
                proxy_temp_path ${this.dir}/proxy;
                fastcgi_temp_path ${this.dir}/fastcgi;
                uwsgi_temp_path ${this.dir}/uwsgi;
                scgi_temp_path ${this.dir}/scgi;
                keepalive_requests 1000000000;
                keepalive_time 1d;
                keepalive_timeout 1h;
                reset_timedout_connection on; # makes 444 a reset
                server {
                    listen 127.0.0.1:${statusPort};
                    stub_status;
                }
                server {
                    ${ports.map((port) => `listen 127.0.0.1:${port} backlog=4096;`).join("\n")}
                    return ${reset ? 444 : 204};
                }
            }`);
        this.child = start("nginx", ["-p", this.dir, "-e", `${this.dir}/error.log`, "-c", `${this.dir}/nginx.conf`],
            { stdio: ["ignore", "ignore", "ignore"],
                env: { ...process.env, PATH: `${process.env.PATH}:/usr/local/sbin:/usr/sbin:/sbin` } });
        let over = false;
        this.child.ended.then(() => { over = true; });
        for (let i = 0; i < 200 && !over; i++) {
            try {
                this.polls = 0;
                await this.requests();
                await this.mark();
                return true;
            } catch {
                await sleep(20);
            }
        }
        await stop(this.child);
        return false;
    }

    // All requests so far, without those that ask for this.
    requests() {
        return new Promise((resolve, reject) => {
            http.get({ host: "127.0.0.1", port: this.statusPort, agent: false }, (response) => {
                let text = "";
                response.on("data", (data) => { text += data; });
                response.on("end", () => {
                    const [, , requests] = text.match(/^ (\d+) (\d+) (\d+)/m).slice(1).map(Number);
                    resolve(requests - ++this.polls);
                });
            }).on("error", reject);
        });
    }

    async mark() { this.marked = await this.requests(); }
    async received() { return await this.requests() - this.marked; }

    // Waits for this many requests since the mark, looking seldom at first, and
    // at most this long for the next one; resolves to how many came.
    async waitFor(count, seconds = 30) {
        const started = performance.now();
        let before = -1;
        let moved = started;
        for (;;) {
            const received = await this.received();
            const now = performance.now();
            const elapsed = now - started;
            if (received !== before) [before, moved] = [received, now];
            if (received >= count || now - moved > seconds * 1000) return received;
            const left = received > 0 ? (count - received) * elapsed / received : 20;
            await sleep(Math.min(100, Math.max(2, left / 2)));
        }
    }

    stop() { return stop(this.child); }
}

// A server of our own in a process of its own (see recorder.mjs).
class Server {
    async launch(...args) {
        this.child = start(process.execPath, [path.join(here, "recorder.mjs"), ...args.map(String)],
            { stdio: ["pipe", "pipe", "inherit"] });
        this.urls = JSON.parse(await firstLine(this.child)).ports.map((port) => `http://127.0.0.1:${port}/hook`);
        return this;
    }

    stop() { return stop(this.child); }
}

// Answers 204 and remembers when each event arrived.
export class Recorder extends Server {
    static start(endpoints = 1) { return new Recorder().launch("record", endpoints); }

    // Writes what has arrived to a file, a line each: event, milliseconds; and forgets it.
    async dump(file) {
        const done = firstLine(this.child);
        this.child.stdin.write(`${file}\n`);
        return Number(await done);
    }
}

// Endpoints that are not well: they hang, refuse, reset, and answer 500 after
// two seconds, and names that do not resolve.
export class Sick {
    static async start(endpoints) {
        const sick = new Sick();
        sick.endpoints = endpoints;
        const names = Math.max(1, Math.round(endpoints / 11));
        const kinds = ["hang", "refuse", "reset", "slow"];
        const counts = kinds.map((kind, i) => Math.ceil((endpoints - names - i) / kinds.length));
        const [hang, refuse, reset, slow] = counts.map((count) => Math.max(1, count));
        sick.servers = [
            await new Server().launch("hang", hang),
            await new Server().launch("slow", slow),
            await Nginx.start(reset, { reset: true }),
        ];
        const [hanging, slowly, resetting] = sick.servers.map((server) => server.urls);
        // nothing listens on these addresses of the loopback network
        const refusing = Array.from({ length: refuse }, (_, i) => `http://127.77.${i >> 8}.${i & 255}:1/hook`);
        // in turn, so that events are spread over the kinds evenly
        sick.urls = [];
        for (let i = 0; i < Math.max(hang, refuse, reset, slow); i++)
            for (const urls of [hanging, refusing, resetting, slowly])
                if (i < urls.length) sick.urls.push(urls[i]);
        sick.nameUrls = Array.from({ length: names }, (_, i) => `http://bench-${i}.invalid/hook`);
        return sick;
    }

    async stop() {
        for (const server of this.servers) await server.stop();
    }
}

export const startHanging = (endpoints = 1) => new Server().launch("hang", endpoints);
export const refusingUrl = "http://127.77.0.1:1/hook";
