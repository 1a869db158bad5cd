//
// answers.mjs - what a receiver might answer, and what has to be made of it
//
// An answer is { bytes, end, expect }.  "end" is what becomes of the connection:
// "close", "reset", "keep" or "hang".  "expect" is { status, body } for a
// complete answer, whatever it says; { error: true } for what is none; and
// { any: true } where readers may differ: then the attempt must only agree with
// itself.
//

import { Random } from "../chaos/random.mjs";

const crlf = "\r\n";
const healthyPart = 0.05;

// What an event is answered follows from the seed and its id, so that receiver and judge agree without talking.
export const answerFor = (seed, id) => new Answers(new Random(seed, id)).make();
// or it goes where all is well
export const isHealthy = (seed, id) => new Random(seed, `healthy ${id}`).chance(healthyPart);

export class Answers {
    constructor(random) { this.random = random; }

    one(list) { return list[this.random.integer(0, list.length - 1)]; }
    bytes(low, high) { return Buffer.from(Array.from({ length: this.random.integer(low, high) }, () => this.random.integer(0, 255))); }
    printable(low, high) { return Array.from({ length: this.random.integer(low, high) }, () => String.fromCharCode(this.random.integer(33, 126))).join(""); }

    status() {
        const r = this.random;
        return r.chance(0.5) ? this.one([200, 200, 201, 202, 204, 299]) : r.chance(0.9) ? r.integer(200, 599) : r.integer(600, 999);
    }

    statusLine(status) {
        return `HTTP/1.${this.one([0, 1, 1, 1])} ${status}${this.one([" OK", " ", "", " " + this.printable(1, 200)])}${crlf}`;
    }

    headers() {
        const r = this.random;
        const known = ["Set-Cookie: a=b", "Location: http://127.0.0.1:1/elsewhere", "WWW-Authenticate: Basic realm=\"x\"", "Alt-Svc: h2=\":1\"", "Retry-After: 1",
            "Strict-Transport-Security: max-age=1", "Content-Encoding: gzip", "Content-Encoding: br", "Content-Type: text/html; charset=utf-16", "Server: x", "Upgrade: h2c",
            "Trailer: x", "Refresh: 0; url=http://127.0.0.1:1/", "Proxy-Authenticate: Negotiate", "Content-Range: bytes 0-1/2", "Date: yesterday"];
        return Array.from({ length: r.integer(0, r.chance(0.05) ? 200 : 6) }, () =>
            (r.chance(0.5) ? this.one(known) : `X-${this.printable(1, 20).replaceAll(":", "-")}: ${this.printable(0, r.chance(0.02) ? 5000 : 60)}`) + crlf).join("");
    }

    interim() {
        const r = this.random;
        return r.chance(0.1) ? Array.from({ length: r.integer(1, 5) }, () => this.one(["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 102 Processing\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"])).join("") : "";
    }

    content(least = 0) {
        const r = this.random;
        return r.chance(0.02) ? "y".repeat(r.integer(Math.max(least, 60000), 200000)) : this.printable(least, r.chance(0.3) ? 3000 : 60);
    }

    chunked(content) {
        let rest = content;
        let out = "";
        while (rest !== "") {
            const length = this.random.integer(1, rest.length);
            const size = length.toString(16);
            out += this.one([size, size.toUpperCase(), "0" + size, size + ";a=b"]) + crlf + rest.slice(0, length) + crlf;
            rest = rest.slice(length);
        }
        return out + "0" + crlf + this.one(["", "X-Trailer: x" + crlf]) + crlf;
    }

    // Right in all its parts.
    complete({ least = 0, framing = this.one(["length", "chunked", "close"]), status = this.status() } = {}) {
        const bodiless = status === 204 || status === 304;
        const content = bodiless ? "" : this.content(least);
        const line = framing === "chunked" ? this.statusLine(status).replace("1.0", "1.1") : this.statusLine(status);
        const ends = framing === "close" || line.startsWith("HTTP/1.0") || this.random.chance(0.5);
        const head = this.interim() + line + this.headers() + (ends ? "Connection: close" + crlf : "") +
            (bodiless || framing === "close" ? "" : framing === "length" ? `Content-Length: ${content.length}${crlf}` : `Transfer-Encoding: chunked${crlf}`) + crlf;
        const body = framing === "chunked" && !bodiless ? this.chunked(content) : content;
        return { head, body, bytes: Buffer.from(head + body, "latin1"), end: ends ? "close" : "keep", expect: { status, body: content.slice(0, 1024) } };
    }

    // An answer that ends before it is over, at any byte.
    cut() {
        const whole = this.complete({ least: 1, framing: this.one(["length", "chunked"]), status: this.one([200, 201, 299, 404, 500, 302]) });
        const most = Math.min(whole.bytes.length, whole.head.length + 65000) - 1;
        const at = this.random.chance(0.6) ? this.random.integer(0, whole.head.length - 1) : this.random.integer(0, most);
        // the last chunk's end has no more to say
        const over = whole.body.endsWith("0\r\n\r\n") && at > whole.bytes.length - 5 || /0\r\nX-Trailer: x\r\n\r\n$/.test(whole.body) && at > whole.bytes.length - 20;
        return { bytes: whole.bytes.subarray(0, at), end: this.one(["close", "close", "reset"]), expect: over ? { any: true } : { error: true } };
    }

    garbage() {
        const r = this.random;
        let bytes = this.bytes(1, r.chance(0.01) ? 100000 : 300);
        if (r.chance(0.3)) bytes = Buffer.from(this.one(["<html>", "HTTPS/1.1 200 OK\r\n\r\n", "SSH-2.0-x\r\n", "220 smtp\r\n", "\x16\x03\x01\x02\x00", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\n\r\n", "RTSP/1.0 200 OK\r\n\r\n", "ICY 200 OK\r\n\r\n", "200 OK\r\n\r\n", "{\"status\":200}", "\0HTTP/1.1 200 OK\r\n\r\n"]) + this.printable(0, 50), "latin1");
        return { bytes, end: this.one(["close", "reset"]), expect: bytes.subarray(0, 5).toString("latin1") === "HTTP/" ? { any: true } : { error: true } };
    }

    badStatusLine() {
        const line = this.one(["HTTP/1.1 abc", "HTTP/1.1 20", "HTTP/1.1 2", "HTTP/1.1 2000 OK", "HTTP/1.1 -200 OK", "HTTP/1.1 +20 OK", "HTTP/1.1 000 OK", "HTTP/1.1 0x200 OK", "HTTP/1.1",
            "HTTP/", "HTTP", "HTTP/1.1200 OK", "HTTP/x 200 OK", "HTTP/1 200 OK", "HTTP/9.9 200 OK", "HTTP/1.1 \t200 OK", "HTTP/1.1 2 0 0"]);
        return { bytes: Buffer.from(line + crlf + "Content-Length: 0" + crlf + crlf), end: "close", expect: /1\.1 \t|HTTP\/1 /.test(line) ? { any: true } : { error: true } };
    }

    badLength() {
        const length = this.one(["-1", "x", "", "99999999999999999999999", "1e3", "0x10", "5, 6", "5\r\nContent-Length: 6", "+5", "5 6", "1000000000000"]);
        return { bytes: Buffer.from(`HTTP/1.1 200 OK${crlf}Content-Length: ${length}${crlf}${crlf}hello`), end: "close", expect: length === "1000000000000" ? { error: true } : { any: true } };
    }

    badChunks() {
        const chunks = this.one(["zz\r\nabc\r\n", "5\r\nabc", "3\r\nabcdef\r\n0\r\n\r\n", "-3\r\nabc\r\n0\r\n\r\n", "fffffffffffffffff\r\nabc", "\r\n\r\n", "3", "3\r\nabc\r\n", "g", ";\r\n", "7fffffffffffffff\r\nabc\r\n",
            "ffffffff\r\nabc\r\n", "1\r\na\r\n".repeat(50)]);
        return { bytes: Buffer.from(`HTTP/1.1 200 OK${crlf}Transfer-Encoding: chunked${crlf}${crlf}${chunks}`), end: "close", expect: { error: true } };
    }

    longHeaders() {
        const r = this.random;
        const size = r.integer(66000, 300000);
        const head = r.chance(0.5) ? `X: ${"x".repeat(size)}${crlf}` : `X-Y: ${"y".repeat(90)}${crlf}`.repeat(size / 90);
        return { bytes: Buffer.from(`HTTP/1.1 200 OK${crlf}${head}${crlf}`), end: "close", expect: { error: true } };
    }

    mutated() {
        const r = this.random;
        const { bytes } = this.complete();
        const copy = Buffer.from(bytes.subarray(0, 5000));
        for (let i = r.integer(1, 4); i > 0; i--) copy[r.integer(0, Math.min(copy.length - 1, 200))] = r.chance(0.5) ? r.integer(0, 255) : this.one([0, 10, 13, 32, 58, 45, 49]);
        return { bytes: copy, end: "close", expect: { any: true } };
    }

    odd() {
        return this.one([
            () => ({ bytes: Buffer.alloc(0), end: this.one(["close", "reset"]), expect: { error: true } }),
            () => ({ bytes: Buffer.from("HTTP/1.1 100 Continue\r\n\r\n".repeat(this.random.integer(1, 50))), end: "close", expect: { error: true } }),
            () => ({ bytes: Buffer.from("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"), end: "close", expect: { any: true } }),
            () => ({ bytes: Buffer.concat([this.complete().bytes, this.complete().bytes]), end: "close", expect: { any: true } }),
            () => ({ bytes: Buffer.concat([this.complete().bytes, this.bytes(1, 200)]), end: "keep", expect: { any: true } }),
            () => ({ bytes: Buffer.from("HTTP/1.1 200 OK\nContent-Length: 2\n\nok"), end: "close", expect: { any: true } }),
            () => ({ bytes: Buffer.from("HTTP/1.1 200 OK\r\n folded\r\nno colon\r\n: no name\r\nContent-Length: 0\r\n\r\n"), end: "close", expect: { any: true } }),
            () => ({ bytes: Buffer.from("HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n", "latin1"), end: "close", expect: { any: true } }),
        ])();
    }

    // Says nothing any more, somewhere in an answer.
    hang() {
        const { bytes } = this.complete({ least: 1, framing: "length" });
        return { bytes: bytes.subarray(0, this.random.integer(0, Math.min(bytes.length, 60000) - 1)), end: "hang", expect: { error: true } };
    }

    make() {
        const kind = this.random.pick({ complete: 25, cut: 25, garbage: 12, badStatusLine: 5, badLength: 5, badChunks: 5, longHeaders: 0.5, mutated: 15, odd: 6, hang: 0.02 });
        return { kind, ...this[kind]() };
    }
}
