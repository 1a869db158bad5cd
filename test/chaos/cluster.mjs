//
// cluster.mjs - the server that the faults strike
//

import fs from "node:fs";
import path from "node:path";

import { run, sleep } from "../bench/process.mjs";

const { BINDIR, SOCKETS } = process.env;
const bin = (program) => path.join(BINDIR, program);

export const database = "chaos";

export class Cluster {
    constructor(directory) {
        this.directory = directory;
    }

    // The log is elsewhere: it has to say what happens when the disk is full.
    async create(settings, log) {
        this.log = log;
        await run(bin("initdb"), ["-D", this.directory, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]);
        fs.appendFileSync(path.join(this.directory, "postgresql.conf"),
            Object.entries(settings).map(([name, value]) => `${name} = '${value}'\n`).join(""));
        await this.start();
        await this.sql(`CREATE DATABASE ${database}`, "postgres");
    }

    // Crash recovery may take its time.
    async start() {
        await run(bin("pg_ctl"), ["-D", this.directory, "-l", this.log, "-s", "-w", "-t", "120", "start"],
            { stdio: ["ignore", "ignore", "ignore"] });
    }

    async stop(mode) {
        await run(bin("pg_ctl"), ["-D", this.directory, "-s", "-w", "-t", "60", "-m", mode, "stop"], { stdio: "ignore" });
    }

    async startUnlessRunning() {
        // a server that is about to give up needs a moment for it
        for (let i = 0; i < 5; i++) {
            await sleep(200);
            const { code } = await run(bin("pg_ctl"), ["-D", this.directory, "status"], { stdio: "ignore" }).then(
                () => ({ code: 0 }), () => ({ code: 1 }));
            if (code !== 0) {
                await this.start();
                return;
            }
        }
    }

    // Rows as lines, columns with tabs; again if a crash gets in between.
    async sql(text, name = database) {
        for (let i = 0; ; i++)
            try {
                const { stdout } = await run(bin("psql"), ["-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1",
                    "-h", SOCKETS, "-U", "postgres", "-d", name], { input: text });
                return stdout;
            } catch (error) {
                const passes = /connection to server|server closed|terminating connection|starting up|shutting down|recovery mode|read-only transaction/;
                if (i === 200 || !passes.test(error.message)) throw error;
                await sleep(50);
            }
    }

    async number(text) { return Number(await this.sql(text)); }

    async set(setting, value) {
        await this.sql(`ALTER SYSTEM SET ${setting} = '${value}'`, "postgres");
        await this.sql("SELECT pg_reload_conf()", "postgres");
    }

    async workerPid() {
        for (let i = 0; i < 400; i++) {
            const pid = Number((await this.sql("SELECT pid FROM osmtalk.worker_status WHERE pid IS NOT NULL LIMIT 1")).trim());
            if (pid > 0) return pid;
            await sleep(25);
        }
        throw new Error("there is no worker");
    }

    async sessionPids() {
        return (await this.sql(`SELECT pid FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND datname = '${database}'`))
            .split("\n").filter((line) => line !== "").map(Number);
    }

    // [milliseconds of the epoch, text] of each line of the log.
    readLog() {
        return fs.readFileSync(this.log, "utf8").split("\n").map((line) => line.match(/^(\d+\.\d+) (.*)$/))
            .filter((match) => match !== null).map(([, at, text]) => [Number(at) * 1000, text]);
    }
}
