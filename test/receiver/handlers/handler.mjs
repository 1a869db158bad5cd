// What tests put in the place of the recipe's handler: it notes each event in
// the file HANDLED, once nothing keeps it (a file of that name and .hold) and unless
// it is to fail (.fail).
import fs from "node:fs";
import { setTimeout } from "node:timers/promises";

const { HANDLED } = process.env;

export default async function handle(event) {
  fs.appendFileSync(`${HANDLED}.begun`, `${event.event}\n`);
  while (fs.existsSync(`${HANDLED}.hold`)) await setTimeout(5);
  if (fs.existsSync(`${HANDLED}.fail`)) throw new Error("the test wants it");
  fs.appendFileSync(HANDLED, `${event.event} ${event.lead?.callId ?? event.call?.id ?? event.message}\n`);
}
