//
// process.mjs - child processes, and what /proc knows of processes
//
// Every child is remembered and ended when this process ends, however it ends.

import { spawn } from "node:child_process";
import fs from "node:fs";

const children = new Set();
const ticksPerSecond = 100; // USER_HZ, which is 100 on every Linux that we know of

export function stopAll() {
    for (const child of children) child.kill("SIGTERM");
}
process.on("exit", stopAll);
for (const [signal, code] of [["SIGHUP", 129], ["SIGINT", 130], ["SIGTERM", 143]])
    process.on(signal, () => process.exit(code));

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export function start(command, args, options = {}) {
    const child = spawn(command, args, options);
    children.add(child);
    child.on("exit", () => children.delete(child));
    child.ended = new Promise((resolve) => {
        child.on("error", (error) => resolve({ code: -1, error }));
        child.on("close", (code, signal) => resolve({ code: code ?? -1, signal }));
    });
    return child;
}

// Runs to the end; rejects unless the exit status is 0.
export async function run(command, args, { input, ...options } = {}) {
    const child = start(command, args, { stdio: ["pipe", "pipe", "pipe"], ...options });
    let stdout = "";
    let stderr = "";
    child.stdout?.setEncoding("utf8").on("data", (data) => { stdout += data; });
    child.stderr?.setEncoding("utf8").on("data", (data) => { stderr += data; });
    child.stdin?.on("error", () => {});
    child.stdin?.end(input);
    const { code, signal, error } = await child.ended;
    if (code !== 0)
        throw new Error(`${command} ${args.join(" ")}: ${error?.message ?? `exit status ${signal ?? code}`}\n${stderr}${stdout}`);
    return { stdout, stderr };
}

export async function stop(child) {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGTERM");
    await child.ended;
}

// The first line that a child prints, which says that it is ready.
export function firstLine(child) {
    return new Promise((resolve, reject) => {
        let text = "";
        const onData = (data) => {
            text += data;
            const end = text.indexOf("\n");
            if (end < 0) return;
            child.stdout.off("data", onData);
            resolve(text.slice(0, end));
        };
        child.stdout.on("data", onData);
        child.ended.then(({ code, error }) => reject(error ?? new Error(`ended with status ${code}: ${text}`)));
    });
}

// --- /proc ---------------------------------------------------------------------

function stat(pid) {
    try {
        const text = fs.readFileSync(`/proc/${pid}/stat`, "latin1");
        // the second field, in parentheses, may contain anything
        const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
        return { parent: Number(fields[1]), own: Number(fields[11]) + Number(fields[12]),
            waitedFor: Number(fields[13]) + Number(fields[14]) };
    } catch {
        return null; // it ended
    }
}

// CPU seconds of a process, all of its threads.
export function cpuOf(pid) {
    return (stat(pid)?.own ?? 0) / ticksPerSecond;
}

// The same to the nanosecond, of the threads that there are now.
export function fineCpuOf(pid) {
    try {
        return fs.readdirSync(`/proc/${pid}/task`)
            .map((thread) => Number(fs.readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "latin1").split(" ")[0]))
            .reduce((a, b) => a + b, 0) / 1e9;
    } catch {
        return cpuOf(pid);
    }
}

// CPU seconds of a process and of its children, those that have ended included.
export function cpuOfTree(pid) {
    const root = stat(pid);
    let ticks = root.own + root.waitedFor;
    for (const entry of fs.readdirSync("/proc"))
        if (/^\d+$/.test(entry)) {
            const s = stat(entry);
            if (s?.parent === pid) ticks += s.own + s.waitedFor;
        }
    return ticks / ticksPerSecond;
}

// Kilobytes, by the names of /proc/PID/status: VmHWM, VmRSS, RssAnon …
export function memoryOf(pid) {
    const sizes = {};
    try {
        for (const [, name, kb] of fs.readFileSync(`/proc/${pid}/status`, "latin1").matchAll(/^(\w+):\s+(\d+) kB$/gm))
            sizes[name] = Number(kb);
    } catch {
        // it ended
    }
    return sizes;
}

// Samples RssAnon, which has no high-water mark of its own; VmHWM has.
export function watchMemory(pids) {
    const peak = { anon: 0, high: 0 };
    const sample = () => {
        let anon = 0;
        let high = 0;
        for (const pid of pids) {
            const sizes = memoryOf(pid);
            anon += sizes.RssAnon ?? 0;
            high += sizes.VmHWM ?? 0;
        }
        peak.anon = Math.max(peak.anon, anon / 1024);
        peak.high = Math.max(peak.high, high / 1024);
    };
    const timer = setInterval(sample, 50);
    sample();
    return () => {
        clearInterval(timer);
        sample();
        return peak; // megabytes
    };
}
