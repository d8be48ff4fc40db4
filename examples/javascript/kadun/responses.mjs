// What an HTTP response is: a token, a request to wait, a refusal of a malformed request, or something untrusted.

import { RequestRefused, ServerUnreachable, UntrustedAnswer } from "./errors.mjs";
import { jsonObject, own } from "./decoding.mjs";

const RETRYABLE = [429, 502, 503];
// The genuine server's refusals of malformed requests. Others come from a portal or a proxy.
const REFUSALS = ["INVALID_REQUEST", "NOT_FOUND", "METHOD_NOT_ALLOWED", "BODY_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE"];

// The HTTP status does not matter if there is a token.
export function tokenFrom(answer) {
  const document = objectOrNull(answer.body) ?? {};
  const token = own(document, "token");
  if (typeof token === "string") return token;
  throw errorFor(answer, document);
}

export function keySetFrom(answer) {
  if (objectOrNull(answer.body) && !RETRYABLE.includes(answer.status)) return answer.body;
  throw errorFor(answer, {});
}

export function errorFor({ status, retryAfter, contentType }, document) {
  const passing = RETRYABLE.includes(status);
  if (passing || status >= 500) {
    const seconds = /^\d{1,6}$/.test(retryAfter ?? "") ? Number(retryAfter) : null;
    const tooLong = /^\d{7,}$/.test(retryAfter ?? "");
    return new ServerUnreachable(`HTTP ${status}`, { passing: passing && !tooLong, retryAfter: seconds });
  }
  const code = problemCode({ status, contentType }, document, REFUSALS);
  if (code) return new RequestRefused(`${status}: ${code}`);
  return new UntrustedAnswer(`HTTP ${status} without a verdict`);
}

/** The code with which the genuine server refuses, if it is one of these. Unsigned, so its form must match exactly. */
export function problemCode({ status, contentType }, document, codes) {
  const code = own(document, "code");
  const problem = (contentType ?? "").split(";")[0].trim().toLowerCase() === "application/problem+json";
  return status >= 400 && status < 500 && problem && codes.includes(code) ? code : null;
}

export function objectOrNull(body) {
  try {
    return jsonObject(body, "the answer");
  } catch {
    return null;
  }
}
