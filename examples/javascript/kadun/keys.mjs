// Trusted signing keys: the pinned keys, and the keys that they endorse.

import { createHash, createPublicKey } from "node:crypto";

import { UntrustedAnswer } from "./errors.mjs";
import { base64url, jsonObject, own } from "./decoding.mjs";
import { AUDIENCE, keyId, requireClaim, verifyToken } from "./tokens.mjs";

export class TrustedKeys {
  #keys = new Map();

  /** `pinned`: the output of `cardctl key export`, `{"iss", "keys"}`, with "program" but for main. */
  constructor(pinned) {
    if (typeof pinned?.iss !== "string" || !pinned.iss || !Array.isArray(pinned.keys) || !pinned.keys.length) {
      throw new TypeError('publicKeys must be {"iss", "keys"}, as `cardctl key export` prints it');
    }
    this.issuer = pinned.iss;
    this.program = pinned.program; // its ID, undefined for main
    for (const jwk of pinned.keys) this.#add(jwk);
  }

  has(kid) {
    return this.#keys.has(kid);
  }

  get(kid) {
    const key = this.#keys.get(kid);
    if (!key) throw new UntrustedAnswer("the token is signed with a key that is neither pinned nor endorsed");
    return key;
  }

  /** Add the keys of a key set (bytes) that a chain of endorsements connects to a trusted key. */
  learn(keySet) {
    const endorsements = own(jsonObject(keySet, "the key set"), "endorsements");
    if (!Array.isArray(endorsements)) throw new UntrustedAnswer("the key set has no endorsements");
    const byEndorser = new Map();
    for (const endorsement of endorsements) {
      const endorser = keyId(endorsement);
      byEndorser.set(endorser, [...(byEndorser.get(endorser) ?? []), endorsement]);
    }
    // Each is verifyToken once, when its endorser has become trusted, so that their order does not matter.
    const fresh = [...this.#keys.keys()];
    while (fresh.length) {
      const endorser = fresh.pop();
      const given = byEndorser.get(endorser) ?? [];
      byEndorser.delete(endorser);
      for (const endorsement of given) {
        const claims = verifyToken(endorsement, this.get(endorser), "key+jwt");
        requireClaim(claims, "aud", AUDIENCE);
        // Not forged, but made when the server had another name. Release 1.0 wrote no issuer.
        if (Object.hasOwn(claims, "iss") && claims.iss !== this.issuer) continue;
        const kid = this.#add(own(claims, "jwk"));
        if (kid) fresh.push(kid);
      }
    }
  }

  // The kid must be the key's own thumbprint (RFC 7638), so that no key can use the name of another.
  #add(jwk) {
    if (own(jwk ?? {}, "kty") !== "OKP" || own(jwk, "crv") !== "Ed25519" || Object.hasOwn(jwk, "d")) {
      throw new UntrustedAnswer("a key is not an Ed25519 public key");
    }
    if ((own(jwk, "use") ?? "sig") !== "sig" || (own(jwk, "alg") ?? "EdDSA") !== "EdDSA") {
      throw new UntrustedAnswer("a key is not for EdDSA signatures");
    }
    const { x } = jwk;
    if (base64url(x, "a key").length !== 32) throw new UntrustedAnswer("a key is not 32 bytes");
    const kid = createHash("sha256").update(`{"crv":"Ed25519","kty":"OKP","x":"${x}"}`).digest("base64url");
    if (own(jwk, "kid") !== kid) throw new UntrustedAnswer("the kid of a key is not its thumbprint");
    if (this.#keys.has(kid)) return null;
    this.#keys.set(kid, createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" }));
    return kid;
  }
}
