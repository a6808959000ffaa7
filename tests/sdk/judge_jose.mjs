// Judges tokens with `jose` (npm): a line of JSON in, a line out, empty where it accepts, else its reason.
//
// Usage: node judge_jose.mjs < LINES; the first line is {"keys", "issuer", "now", "leeway"}, every other {"token", "algorithm", "kid"}:
// the key and the algorithm are pinned, the token chooses neither.

import { createInterface } from "node:readline";
import { importJWK, jwtVerify } from "jose";

let settings;
const keys = new Map();

async function verdict({ token, algorithm, kid }) {
  try {
    await jwtVerify(token, keys.get(kid), {
      algorithms: [algorithm],
      issuer: settings.issuer,
      clockTolerance: settings.leeway,
      currentDate: new Date(settings.now * 1000),
    });
    return "";
  } catch (error) {
    return `${error.code ?? error.name}: ${error.message}`.replaceAll("\n", " ");
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const said = JSON.parse(line);
  if (settings) {
    process.stdout.write(`${await verdict(said)}\n`);
    continue;
  }
  settings = said;
  for (const key of settings.keys) keys.set(key.kid, await importJWK(key, key.alg));
}
