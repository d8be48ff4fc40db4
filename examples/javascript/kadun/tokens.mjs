// Compact JWS (RFC 7515), Ed25519 and nothing else.

import { verify } from "node:crypto";

import { UntrustedAnswer } from "./errors.mjs";
import { base64url, jsonObject, own } from "./strict.mjs";

export const AUDIENCE = "kadun-client";

function split(token) {
  const parts = typeof token === "string" ? token.split(".") : [];
  if (parts.length !== 3) throw new UntrustedAnswer("the token is no compact JWS");
  const [header, payload, signature] = parts.map((part) => base64url(part, "a part of the token"));
  const signed = Buffer.from(`${parts[0]}.${parts[1]}`, "ascii");
  return { header: jsonObject(header, "the token's header"), payload, signature, signed };
}

/** The `kid` that a token names. Not to be believed: it only says which key to try. */
export function keyId(token) {
  const kid = own(split(token).header, "kid");
  if (typeof kid !== "string") throw new UntrustedAnswer("the token names no key");
  return kid;
}

/** The claims of a token whose algorithm, type and signature hold. All three are constants, not the token's choice. */
export function verified(token, key, typ) {
  const { header, payload, signature, signed } = split(token);
  if (own(header, "alg") !== "EdDSA") throw new UntrustedAnswer("alg is not EdDSA");
  if (own(header, "typ") !== typ) throw new UntrustedAnswer(`typ is not ${typ}`);
  if (Object.hasOwn(header, "crit") || Object.hasOwn(header, "b64")) {
    throw new UntrustedAnswer("critical extensions");
  }
  if (signature.length !== 64 || !verify(null, signed, key, signature)) {
    throw new UntrustedAnswer("the signature is wrong");
  }
  return jsonObject(payload, "the token's payload");
}

/** Insist that a claim is exactly this value. */
export function requireClaim(claims, name, expected) {
  if (typeof expected !== "string" || own(claims, name) !== expected) {
    throw new UntrustedAnswer(`claim ${name} is not the one asked for`);
  }
}
