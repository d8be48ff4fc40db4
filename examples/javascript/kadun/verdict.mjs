// Verifies verdicts: every check of docs/protocol.md, "What a client must check", before any claim is used.

import { createHash } from "node:crypto";

import { UntrustedAnswer } from "./errors.mjs";
import { own } from "./decoding.mjs";
import { AUDIENCE, keyId, requireClaim, verifyToken } from "./tokens.mjs";

const YEAR_10000 = Date.UTC(10000, 0) / 1000;
export const OPEN = "打开程序"; // the only function that grants the key
export const UPDATE_REQUIRED = "UPDATE_REQUIRED";

/** `request`: the fields as sent. `body`: their JSON, byte for byte as sent. `keyPair`: null if no key was requested. */
export function verifyVerdict(token, request, body, keys, keyPair) {
  const claims = verifyToken(token, keys.get(keyId(token)), "verdict+jwt");
  requireClaim(claims, "aud", AUDIENCE);
  requireClaim(claims, "iss", keys.issuer);
  requireClaim(claims, "nonce", request.nonce);
  requireClaim(claims, "sub", request.card_id);
  requireClaim(claims, "function", request.function);
  requireClaim(claims, "hardware_sha256", sha256(request.hardware));
  // Servers of release 1.0 do not send it.
  if (Object.hasOwn(claims, "request_sha256")) requireClaim(claims, "request_sha256", sha256(body));
  const span = time(claims, "exp") - time(claims, "iat"); // never compared with this machine's clock
  if (!(span > 0 && span <= 300)) throw new UntrustedAnswer("exp is not within 300 seconds after iat");

  const [code, accepted, jti] = ["code", "accepted", "jti"].map((name) => own(claims, name));
  if (typeof code !== "string" || !/^[A-Z][A-Z0-9_]{0,63}$/.test(code)) throw new UntrustedAnswer("code is malformed");
  if (typeof jti !== "string" || !/^[!-~]{8,128}$/.test(jti)) throw new UntrustedAnswer("jti is malformed");
  if (typeof accepted !== "boolean" || accepted !== (code === "OK")) {
    throw new UntrustedAnswer("accepted contradicts code");
  }
  const activated = own(claims, "activated");
  if (typeof activated !== "boolean") throw new UntrustedAnswer("activated is not a boolean");
  if (activated && !accepted && !isFunctionFailure(code)) throw new UntrustedAnswer("activated contradicts code");
  // Null, and only null, is a permanent card: a claim that is missing must not make one.
  const dated = accepted || code === "CARD_EXPIRED";
  if (dated) time(claims, "card_activated_at");
  const expiry = dated && own(claims, "card_expires_at") !== null ? time(claims, "card_expires_at") : null;
  if (Object.hasOwn(claims, "offline_until")) {
    if (!accepted || request.function !== OPEN) throw new UntrustedAnswer("offline_until in what is not an opening");
    time(claims, "offline_until");
  }

  if (Object.hasOwn(claims, "KERNAL_DATA_KEY")) throw new UntrustedAnswer("the key came in clear");
  const grantsKey = accepted && keyPair !== null;
  if (!grantsKey && Object.hasOwn(claims, "KERNAL_DATA_KEY_SEALED")) {
    throw new UntrustedAnswer("the verdict contains a key that it does not grant");
  }
  const verdict = {
    code,
    accepted,
    reference: jti.slice(-8),
    activated,
    issuedAt: new Date(claims.iat * 1000),
    notice: textOrNull(claims, "notice"),
    latestVersion: textOrNull(claims, "latest_version"),
    updateUrl: textOrNull(claims, "update_url"), // open it only if it begins with https://
    cardExpiresAt: expiry === null ? null : new Date(expiry * 1000), // null: permanent, or a rejection
  };
  if (grantsKey) {
    const dataKey = keyPair.open(own(claims, "KERNAL_DATA_KEY_SEALED"));
    if (!dataKey) throw new UntrustedAnswer("the sealed key is empty");
    // Not enumerable, so that neither console.log nor JSON.stringify shows it.
    Object.defineProperty(verdict, "dataKey", { value: dataKey, enumerable: false });
  }
  return verdict;
}

/** Whether a verdict rejects the card. A failed server function (FUNCTION_…) is not a rejection of the card. */
export function revokesAccess(verdict) {
  return !verdict.accepted && !isFunctionFailure(verdict.code);
}

/** Whether a running program loses its key. UPDATE_REQUIRED leaves it, because the card is valid. */
export function revokesKey(verdict) {
  return revokesAccess(verdict) && verdict.code !== UPDATE_REQUIRED;
}

// The card was accepted, and possibly activated, but its server function has no result.
function isFunctionFailure(code) {
  return code.startsWith("FUNCTION_");
}

// Of bytes, or of a string in UTF-8.
function sha256(data) {
  return createHash("sha256").update(data).digest("hex");
}

function textOrNull(claims, name) {
  if (!Object.hasOwn(claims, name)) return null;
  if (typeof claims[name] !== "string" || !claims[name]) throw new UntrustedAnswer(`${name} is not a string`);
  return claims[name];
}

// Seconds since 1970, within the years that every client can represent.
function time(claims, name) {
  const value = own(claims, name);
  const known = typeof value === "number" && value >= 0 && value < YEAR_10000;
  if (!known) throw new UntrustedAnswer(`${name} is not a time`);
  return value;
}
