// The client: sends requests, verifies the answers, and unseals the core data.

import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { decryptAge } from "./age.mjs";
import { CardRejected, RequestRefused, ServerUnreachable, UnsealFailed, UntrustedAnswer } from "./errors.mjs";
import { TrustedKeys } from "./keys.mjs";
import { KeyPair } from "./sealing.mjs";
import { jsonObject, own } from "./decoding.mjs";
import { keyId } from "./tokens.mjs";
import { exchange } from "./transport.mjs";
import { OPEN, verifyVerdict } from "./verdict.mjs";

const TRIES = 3;
const FIRST_PAUSE_SECONDS = 0.5;
const LONGEST_PAUSE_SECONDS = 5;
const RETRYABLE = [429, 502, 503];
// The genuine server's refusals of malformed requests. Others come from a portal or a proxy.
const REFUSALS = ["INVALID_REQUEST", "NOT_FOUND", "METHOD_NOT_ALLOWED", "BODY_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE"];

export class Client {
  #baseUrl;
  #keys;
  #cardId;
  #hardware;
  #options;
  #dataKey = null;

  /**
   * `publicKeys`: the parsed output of `cardctl key export`. `hardware`: a string that identifies this machine.
   * `ca`: the PEM of a private CA. `timeoutMs`: the limit for each try, from the name lookup to the last byte.
   */
  constructor(baseUrl, { publicKeys, cardId, hardware, language = "zh", timeoutMs = 10_000, ca = undefined }) {
    this.#baseUrl = baseUrl;
    this.#keys = new TrustedKeys(publicKeys);
    this.#cardId = cardId.trim();
    this.#hardware = hardware;
    this.#options = { language, timeoutMs, ca };
  }

  /** Ask the server to open the program. Throws CardRejected, ServerUnreachable, UntrustedAnswer, RequestRefused. */
  async open() {
    const verdict = await this.#ask(OPEN, new KeyPair());
    this.#dataKey = verdict.dataKey;
    return verdict;
  }

  /** Ask whether another function may run. Its verdict grants no key. */
  async report(functionName) {
    return this.#ask(functionName, null);
  }

  /** Decrypt core data (the bytes of an age file) with the key of the last `open`. Throws UnsealFailed. */
  unseal(sealed) {
    if (this.#dataKey === null) throw new UnsealFailed("call open() first; it must be accepted");
    return decryptAge(sealed, this.#dataKey);
  }

  async #ask(functionName, keyPair) {
    const { request, body, token } = await this.#withRetries(async () => {
      const fresh = {
        card_id: this.#cardId,
        hardware: this.#hardware,
        function: functionName,
        nonce: randomBytes(24).toString("base64url"), // new for each try: an answer to an earlier one must not count
        ...(keyPair ? { client_public_key: keyPair.publicKey } : {}),
      };
      const json = JSON.stringify(fresh);
      const answer = await exchange(this.#baseUrl, "/v1/verify", json, this.#options);
      return { request: fresh, body: json, token: tokenFrom(answer) };
    });
    if (!this.#keys.has(keyId(token))) {
      const fetchKeys = () => exchange(this.#baseUrl, "/.well-known/jwks.json", null, this.#options);
      this.#keys.learn(await this.#withRetries(async () => keySetFrom(await fetchKeys())));
    }
    const verdict = verifyVerdict(token, request, body, this.#keys, keyPair);
    if (!verdict.accepted) {
      this.#dataKey = null; // a signed rejection revokes an earlier acceptance
      throw new CardRejected(verdict.code, verdict.reference);
    }
    return verdict;
  }

  async #withRetries(attempt) {
    for (let tries = 1; ; tries += 1) {
      try {
        return await attempt();
      } catch (failure) {
        const wait = failure.retryAfter ?? 0;
        const again = failure instanceof ServerUnreachable && failure.passing && wait <= LONGEST_PAUSE_SECONDS;
        if (!again || tries >= TRIES) throw failure;
        const pause = FIRST_PAUSE_SECONDS * 2 ** (tries - 1) * (0.5 + Math.random() / 2);
        await sleep((wait + pause) * 1000);
      }
    }
  }
}

// The HTTP status does not matter if there is a token.
function tokenFrom(answer) {
  const document = objectOrNull(answer.body) ?? {};
  const token = own(document, "token");
  if (typeof token === "string") return token;
  throw errorFor(answer, document);
}

function keySetFrom(answer) {
  if (objectOrNull(answer.body) && !RETRYABLE.includes(answer.status)) return answer.body;
  throw errorFor(answer, {});
}

function errorFor({ status, retryAfter, contentType }, document) {
  const passing = RETRYABLE.includes(status);
  if (passing || status >= 500) {
    const seconds = /^\d{1,6}$/.test(retryAfter ?? "") ? Number(retryAfter) : null;
    const tooLong = /^\d{7,}$/.test(retryAfter ?? "");
    return new ServerUnreachable(`HTTP ${status}`, { passing: passing && !tooLong, retryAfter: seconds });
  }
  const code = own(document, "code");
  const problem = (contentType ?? "").split(";")[0].trim().toLowerCase() === "application/problem+json";
  if (status >= 400 && problem && REFUSALS.includes(code)) return new RequestRefused(`${status}: ${code}`);
  return new UntrustedAnswer(`HTTP ${status} without a verdict`);
}

function objectOrNull(body) {
  try {
    return jsonObject(body, "the answer");
  } catch {
    return null;
  }
}
