// Tells how Node's http, and what applications build on it, read a request: JSON in the answer's `x-read`.
//
// Prints its port; ends with its standard input.

import { createServer } from "node:http";
import { posix } from "node:path";
import { parse } from "node:url";

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function normal(path) {
  const short = posix.normalize(decoded(path));
  return path.endsWith("/") && !short.endsWith("/") ? `${short}/` : short;
}

// What an application would take from a body.
function value(body) {
  try {
    const id = JSON.parse(body).target?.id;
    return ["string", "number"].includes(typeof id) ? String(id) : null;
  } catch {
    return null;
  }
}

const server = createServer((request, answer) => {
  const body = [];
  request.on("data", (chunk) => body.push(chunk));
  request.on("end", () => {
    const bytes = Buffer.concat(body);
    const legacy = parse(request.url).pathname ?? "";
    const modern = new URL(request.url, "http://base.test").pathname;
    const read = {
      id: request.headers["x-request-id"],
      route: request.headers["x-portcullis-route"],
      method: request.method,
      host: request.headers.host,
      paths: [legacy, modern, decoded(legacy), decoded(modern), normal(legacy)],
      body: bytes.toString("latin1"),
      value: value(bytes.toString("utf8")),
    };
    answer.writeHead(200, { "x-read": encodeURIComponent(JSON.stringify(read)), "content-length": 0 });
    answer.end();
  });
});
server.keepAliveTimeout = 60_000;
server.listen(0, "127.0.0.1", () => process.stdout.write(`${server.address().port}\n`));
process.stdin.resume().on("end", () => process.exit());
