// Node's clients through a proxy: fetch, where this Node reads the proxy variables by itself
// (24, with NODE_USE_ENV_PROXY), else CONNECT by hand. `node node_client.js URL` prints the body.
"use strict";
const http = require("node:http");
const https = require("node:https");
const tls = require("node:tls");

const url = new URL(process.argv[2]);
const proxy = new URL(process.env.HTTPS_PROXY);

function show(answer) {
  answer.pipe(process.stdout);
}

function fail(error) {
  console.error(error);
  process.exit(1);
}

if (process.env.NODE_USE_ENV_PROXY) {
  fetch(url).then((answer) => answer.text()).then((text) => process.stdout.write(text), fail);
} else if (url.protocol === "http:") {
  http
    .get({ host: proxy.hostname, port: proxy.port, path: url.href, headers: { Host: url.host } }, show)
    .on("error", fail);
} else {
  http
    .request({
      host: proxy.hostname,
      port: proxy.port,
      method: "CONNECT",
      path: `${url.hostname}:${url.port || 443}`,
    })
    .on("connect", (answer, socket) => {
      if (answer.statusCode !== 200) fail(new Error(`CONNECT: ${answer.statusCode}`));
      const createConnection = () => tls.connect({ socket, servername: url.hostname });
      https.get(url, { createConnection }, show).on("error", fail);
    })
    .on("error", fail)
    .end();
}
