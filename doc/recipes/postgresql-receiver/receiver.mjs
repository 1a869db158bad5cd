// receiver.mjs - the HTTP part of a receiver that is a PostgreSQL database
//
//     PGUSER=inbox_http node receiver.mjs
//
// Hands each request's bytes to inbox.receive() (see inbox.sql), and answers when
// they are committed. Any number of these may run for one database. Environment:
// PGHOST, PGDATABASE and the like; HOST, PORT.

import http from "node:http";
import pg from "pg";

const { HOST = "127.0.0.1" } = process.env;
const port = Number(process.env.PORT ?? 8080);
const maxBytes = 1024 * 1024; // osmtalk.max_payload is a quarter of that, unless it was raised
const database = new pg.Pool({ connectionTimeoutMillis: 5_000, query_timeout: 10_000 });

database.on("error", (error) => console.error(error.message)); // an idle connection was lost

async function receive(request, response) {
  const answer = (status) => response.writeHead(status, status < 300 ? {} : { Connection: "close" }).end();
  const length = Number(request.headers["content-length"] ?? NaN);
  const { "x-osmtalk-event-id": eventId, "x-osmtalk-signature": signature } = request.headers;
  if (request.method !== "POST") return answer(405);
  if (Number.isNaN(length)) return answer(411);
  if (length > maxBytes) return answer(413);
  if (!eventId || !signature) return answer(401);

  const rawBody = Buffer.concat(await request.toArray()); // the bytes as they came
  const { rows } = await database.query("SELECT inbox.receive($1, $2, $3) AS genuine", [eventId, signature, rawBody]);
  answer(rows[0].genuine ? 204 : 401);
  if (rows[0].genuine) await work();
}

async function work() {
  for (;;) {
    const { rows } = await database.query("SELECT inbox.work() AS more");
    if (!rows[0].more) return;
  }
}

http.createServer({ requestTimeout: 15_000 }, (request, response) => {
  receive(request, response).catch((error) => {
    console.error(error.message);
    if (!response.headersSent) response.writeHead(500, { Connection: "close" }).end();
  });
}).listen(port, HOST, () => console.log(`listening on ${HOST}:${port}`));
setInterval(() => work().catch((error) => console.error(error.message)), 60_000);
