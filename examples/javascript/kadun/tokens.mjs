// Compact JWS (RFC 7515), Ed25519 only.

import { verify } from "node:crypto";

import { UntrustedAnswer } from "./errors.mjs";
import { base64url, jsonObject, own } from "./decoding.mjs";

export const AUDIENCE = "kadun-client";

function split(token) {
  const parts = typeof token === "string" ? token.split(".") : [];
  if (parts.length !== 3) throw new UntrustedAnswer("the token is not a compact JWS");
  const [header, payload, signature] = parts.map((part) => base64url(part, "a part of the token"));
  const signed = Buffer.from(`${parts[0]}.${parts[1]}`, "ascii");
  return { header: jsonObject(header, "the token's header"), payload, signature, signed };
}

/** The `kid` of a token. It is unverified: it only selects the key to verify with. */
export function keyId(token) {
  const kid = own(split(token).header, "kid");
  if (typeof kid !== "string") throw new UntrustedAnswer("the token has no kid");
  return kid;
}

/** Verify algorithm, type and signature of a token, and return its claims. The token does not choose any of them. */
export function verifyToken(token, key, typ) {
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

/** Check that a claim has exactly this value. */
export function requireClaim(claims, name, expected) {
  if (typeof expected !== "string" || own(claims, name) !== expected) {
    throw new UntrustedAnswer(`claim ${name} is not the one requested`);
  }
}
