// The client: sends requests, verifies the answers, and unseals the core data.

import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { decryptAge } from "./age.mjs";
import { CardRejected, ServerUnreachable, UnsealFailed, UpdateRequired } from "./errors.mjs";
import { TrustedKeys } from "./keys.mjs";
import { keySetFrom, tokenFrom } from "./responses.mjs";
import { KeyPair } from "./sealing.mjs";
import { cardStatusFrom } from "./selfservice.mjs";
import { keyId } from "./tokens.mjs";
import { exchange } from "./transport.mjs";
import { OPEN, UPDATE_REQUIRED, revokesAccess, revokesKey, verifyVerdict } from "./verdict.mjs";

const TRIES = 3;
const FIRST_PAUSE_SECONDS = 0.5;
const LONGEST_PAUSE_SECONDS = 5;
const VERSION = /^[0-9]+(\.[0-9]+)*$/;

export class Client {
  #baseUrl;
  #keys;
  #cardId;
  #hardware;
  #version;
  #options;
  #dataKey = null;
  #lastRejection = null; // a verdict

  /**
   * `publicKeys`: the parsed output of `cardctl key export`. `hardware`: a string that identifies this machine.
   * `version`: the program's own, dotted numbers such as "1.4". `ca`: the PEM of a private CA.
   * `timeoutMs`: the limit for each try, from the name lookup to the last byte.
   */
  constructor(baseUrl, { publicKeys, cardId, hardware, version, language = "zh", timeoutMs = 10_000, ca }) {
    if (version !== undefined && !(typeof version === "string" && version.length <= 32 && VERSION.test(version))) {
      throw new TypeError('version must be dotted numbers such as "1.4", at most 32 characters');
    }
    this.#baseUrl = baseUrl;
    this.#keys = new TrustedKeys(publicKeys);
    this.#cardId = cardId.trim();
    this.#hardware = hardware;
    this.#version = version;
    this.#options = { language, timeoutMs, ca };
  }

  /** Ask the server to open the program. Throws CardRejected, ServerUnreachable, UntrustedAnswer, RequestRefused. */
  async open() {
    return this.#ask(OPEN, new KeyPair());
  }

  /** Ask whether another function may run. Its verdict grants no key. Throws TypeError for 打开程序, and as `open`. */
  async report(functionName) {
    if (functionName === OPEN) throw new TypeError(`use open() for ${OPEN}`); // without a public key it asks in clear
    return this.#ask(functionName, null);
  }

  /** Decrypt core data (the bytes of an age file) with the key of the last `open`. Throws UnsealFailed. */
  unseal(sealed) {
    if (this.#dataKey === null) throw new UnsealFailed("call open() first; it must be accepted");
    return decryptAge(sealed, this.#dataKey);
  }

  /**
   * Use up another, unused card to renew this one: `{status, expiresAt, bound, unbindsLeft, nextUnbindAt}`. The answer
   * is not signed: show it, then `open` or `report`. Throws SelfServiceRefused, and the errors of `open`.
   */
  async renew(withCard) {
    return this.#selfService("renew", { with_card_id: withCard.trim() });
  }

  /** Release the card from its machine; the next one that asks is bound to it. The answer is as that of `renew`. */
  async unbind() {
    return this.#selfService("unbind", {});
  }

  // Sent once: a lost answer does not tell whether it was carried out.
  async #selfService(action, fields) {
    const body = JSON.stringify({ card_id: this.#cardId, ...fields });
    return cardStatusFrom(await exchange(this.#baseUrl, `/v1/self/${action}`, body, this.#options));
  }

  async #ask(functionName, keyPair) {
    const begun = this.#lastRejection;
    const { request, body, token } = await this.#withRetries(async () => {
      const fresh = {
        card_id: this.#cardId,
        hardware: this.#hardware,
        function: functionName,
        nonce: randomBytes(24).toString("base64url"), // new for each try: an answer to an earlier one must not count
        ...(this.#version === undefined ? {} : { version: this.#version }),
        ...(this.#keys.program === undefined ? {} : { program: this.#keys.program }),
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
    const verdict = this.#record(verifyVerdict(token, request, body, this.#keys, keyPair), keyPair, begun);
    if (verdict.code === UPDATE_REQUIRED) throw new UpdateRequired(verdict);
    if (!verdict.accepted) throw new CardRejected(verdict.code, verdict.reference);
    return verdict;
  }

  /**
   * Keep the key of an opening; a rejection of the card revokes it. `begun`: the last rejection when the request began.
   * Returns the verdict, or for an opening a later rejection that another request received meanwhile.
   */
  #record(verdict, keyPair, begun) {
    const laterNo = this.#lastRejection === begun ? null : this.#lastRejection;
    if (revokesAccess(verdict)) {
      this.#lastRejection = verdict;
      if (revokesKey(verdict)) this.#dataKey = null;
    } else if (laterNo && verdict.issuedAt <= laterNo.issuedAt) {
      return keyPair ? laterNo : verdict;
    } else if (keyPair && verdict.accepted) {
      this.#lastRejection = null;
      this.#dataKey = verdict.dataKey;
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
