#!/usr/bin/env node
//
// tls.mjs - receivers whose TLS is wrong in one way each, or right
//
//     node tls.mjs DIRECTORY LOGFILE
//
// The directory has NAME.crt and NAME.key for each certificate.  Listens on
// free ports of 127.0.0.1 and says {"server": port, …} when it is ready.  A
// request that gets through is one JSON line in LOGFILE, and answered 204.

import fs from "node:fs";
import https from "node:https";
import path from "node:path";
import tls from "node:tls";

const [directory, log] = process.argv.slice(2);
const read = (name) => ({
    cert: fs.readFileSync(path.join(directory, `${name}.crt`)),
    key: fs.readFileSync(path.join(directory, `${name}.key`)),
});
// what is too weak for OpenSSL's own taste is spoken here, so that it is the client who refuses
const weak = "DEFAULT:@SECLEVEL=0";
const only = (version) => ({ minVersion: version, maxVersion: version, ciphers: weak });

const servers = {
    good: read("good"),
    expired: read("expired"),
    future: read("future"),
    wrong_host: read("wrong_host"),
    wildcard: read("wildcard"),
    no_san: read("no_san"),
    untrusted: read("untrusted"),
    self_signed: read("self_signed"),
    tls_1_0: { ...read("good"), ...only("TLSv1") },
    tls_1_1: { ...read("good"), ...only("TLSv1.1") },
    tls_1_2: { ...read("good"), ...only("TLSv1.2") },
    tls_1_3: { ...read("good"), minVersion: "TLSv1.3" },
    anonymous: { ...only("TLSv1.2"), ciphers: "aNULL:@SECLEVEL=0", dhparam: "auto" },
    null_cipher: { ...read("good"), ...only("TLSv1.2"), ciphers: "eNULL:@SECLEVEL=0" },
    // the right certificate for the name that is asked for, another without
    by_name: {
        ...read("wrong_host"),
        SNICallback: (name, done) => done(null, name === "localhost" ? tls.createSecureContext(read("good")) : undefined),
    },
    rather_http2: { ...read("good"), ALPNProtocols: ["h2", "http/1.1"] },
};

process.on("SIGTERM", () => process.exit(0));
const ports = {};
for (const [name, options] of Object.entries(servers)) {
    const server = https.createServer(options, (request, response) => {
        const { socket } = request;
        request.resume();
        request.on("end", () => {
            const { servername, alpnProtocol } = socket;
            const entry = { server: name, version: socket.getProtocol(), name: servername, protocol: alpnProtocol, path: request.url };
            fs.appendFileSync(log, JSON.stringify(entry) + "\n");
            response.writeHead(204).end();
        });
    });
    server.on("tlsClientError", () => {});
    await new Promise((resolve) => server.listen({ host: "127.0.0.1", port: 0 }, resolve));
    ports[name] = server.address().port;
}
fs.writeSync(1, JSON.stringify(ports) + "\n");
