// verify.mjs - what the verifiers of others say of requests that were received
//
//     node verify.mjs LOG SECRETS
//
// LOG is what test/receiver/receiver.mjs writes with --bodies, SECRETS a JSON
// object of names and secrets.  Prints, as JSON, an object for each request:
// which of the secrets each library accepts it with, and what it accepts that
// it must not: a body with another byte, a replay ten minutes later, one from
// ten minutes ahead, the signature of another request.  To be run where the
// packages are (Osmtalk::Extras).

import fs from "node:fs";
import * as octokit from "@octokit/webhooks-methods";
import { Webhook as Standard } from "standardwebhooks";
import { Webhook as Svix } from "svix";

const [, , log, secrets] = process.argv;
const names = Object.entries(JSON.parse(secrets));
const requests = fs.readFileSync(log, "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line));

// What throws does not accept.
async function accepts(verify) {
    try {
        return (await verify()) !== false;
    } catch {
        return false;
    }
}

// The libraries ask Date for the time.
async function at(offset, verify) {
    const { now } = Date;

    Date.now = () => now() + offset;
    try {
        return await accepts(verify);
    } finally {
        Date.now = now;
    }
}

const libraries = {
    standardwebhooks: (body, headers, secret) => new Standard(secret).verify(body, headers),
    svix: (body, headers, secret) => new Svix(secret).verify(body, headers),
    octokit: (body, headers, secret) => octokit.verify(secret, body, headers["x-osmtalk-signature"]),
};
// octokit's knows no time
const timed = ["standardwebhooks", "svix"];
const TEN_MINUTES = 600_000;

async function verdict(request, other) {
    const { body, headers } = request;
    const result = { eventId: request.eventId, path: request.path, accepted: {}, wrongly: [] };

    for (const [library, verify] of Object.entries(libraries)) {
        const accepted = [];
        for (const [name, secret] of names) if (await accepts(() => verify(body, headers, secret))) accepted.push(name);
        result.accepted[library] = accepted.sort().join(" ");

        for (const [name, secret] of names) {
            const wrong = async (what, accepted) => (await accepted) && result.wrongly.push(`${library}: ${what} with ${name}`);
            const at1 = Math.floor(body.length / 2);
            const changed = body.slice(0, at1) + (body[at1] === "x" ? "y" : "x") + body.slice(at1 + 1);

            await wrong("another byte", accepts(() => verify(changed, headers, secret)));
            await wrong("one byte more", accepts(() => verify(body + " ", headers, secret)));
            await wrong("another request's signature", accepts(() => verify(body, {
                ...headers,
                "webhook-signature": other.headers["webhook-signature"],
                "x-osmtalk-signature": other.headers["x-osmtalk-signature"],
            }, secret)));
            if (!timed.includes(library)) continue;
            await wrong("an old timestamp", at(TEN_MINUTES, () => verify(body, headers, secret)));
            await wrong("a future timestamp", at(-TEN_MINUTES, () => verify(body, headers, secret)));
            await wrong("another timestamp", accepts(() => verify(body, {
                ...headers, "webhook-timestamp": String(Number(headers["webhook-timestamp"]) + 1) }, secret)));
            await wrong("another id", accepts(() => verify(body, { ...headers, "webhook-id": "evt_another" }, secret)));
        }
    }
    return result;
}

const verdicts = [];
for (const [i, request] of requests.entries()) {
    // the same event may have come more than once
    const other = [...requests.slice(i + 1), ...requests.slice(0, i)].find(({ body }) => body !== request.body);

    verdicts.push(await verdict(request, other));
}
console.log(JSON.stringify(verdicts));
