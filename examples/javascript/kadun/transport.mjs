// HTTP with limits on time, size and redirects.

import http from "node:http";
import https from "node:https";

import { ServerUnreachable, UntrustedAnswer } from "./errors.mjs";

const LARGEST_BODY_BYTES = 1024 * 1024;

/** POST `body` to a path of the server, or GET the path without a body: `{status, body, retryAfter, contentType}`. */
export function exchange(baseUrl, path, body, { timeoutMs, language, ca }) {
  const url = new URL(baseUrl.replace(/\/+$/, "") + path);
  return new Promise((resolve, reject) => {
    const options = {
      method: body === null ? "GET" : "POST",
      agent: false,
      ca,
      headers: {
        Accept: "application/json",
        "Accept-Encoding": "identity", // nothing to decompress, so that the limit on the size holds
        "Accept-Language": language === "en" ? "en" : "zh-CN,zh",
        ...(body === null ? {} : { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) }),
      },
    };
    // Redirects are not followed: another address is not the configured server.
    const request = (url.protocol === "https:" ? https : http).request(url, options);
    // One timer for the whole request: socket timeouts do not limit a response that arrives byte by byte.
    const timer = setTimeout(() => finish(new ServerUnreachable(`no answer within ${timeoutMs} ms`)), timeoutMs);
    function finish(failure, answer) {
      clearTimeout(timer);
      request.destroy();
      if (failure) reject(failure);
      else resolve(answer);
    }
    const broken = (why) => finish(new ServerUnreachable(String(why?.code ?? why), { passing: true }));
    request.on("error", broken);
    request.on("close", () => broken("the connection ended"));
    request.on("response", (response) => {
      const chunks = [];
      let size = 0;
      response.on("data", (chunk) => {
        size += chunk.length;
        chunks.push(chunk);
        if (size > LARGEST_BODY_BYTES) finish(new UntrustedAnswer("the response is larger than 1 MiB"));
      });
      response.on("error", broken);
      response.on("end", () => {
        const retryAfter = response.headers["retry-after"];
        const contentType = response.headers["content-type"];
        finish(null, { status: response.statusCode, body: Buffer.concat(chunks), retryAfter, contentType });
      });
    });
    request.end(body ?? undefined);
  });
}
