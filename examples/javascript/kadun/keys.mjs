// The keys that this program believes: those it shipped with, and those that they vouch for.

import { createHash, createPublicKey } from "node:crypto";

import { UntrustedAnswer } from "./errors.mjs";
import { base64url, jsonObject, own } from "./strict.mjs";
import { AUDIENCE, keyId, requireClaim, verified } from "./tokens.mjs";

export class TrustedKeys {
  #keys = new Map();

  /** `pinned`: what `cardctl key export` prints, `{"iss", "keys"}`. */
  constructor(pinned) {
    if (typeof pinned?.iss !== "string" || !pinned.iss || !Array.isArray(pinned.keys) || !pinned.keys.length) {
      throw new TypeError('publicKeys must be {"iss", "keys"}, as `cardctl key export` prints it');
    }
    this.issuer = pinned.iss;
    for (const jwk of pinned.keys) this.#add(jwk);
  }

  has(kid) {
    return this.#keys.has(kid);
  }

  get(kid) {
    const key = this.#keys.get(kid);
    if (!key) throw new UntrustedAnswer("the token is signed with a key that no pinned key vouches for");
    return key;
  }

  /** Walk the endorsements of a key set (bytes). The set itself counts for nothing, only the signatures in it. */
  learn(keySet) {
    const endorsements = own(jsonObject(keySet, "the key set"), "endorsements");
    if (!Array.isArray(endorsements)) throw new UntrustedAnswer("the key set has no endorsements");
    const byEndorser = new Map();
    for (const endorsement of endorsements) {
      const endorser = keyId(endorsement);
      byEndorser.set(endorser, [...(byEndorser.get(endorser) ?? []), endorsement]);
    }
    // Each is looked at once, when its endorser has become trusted, so that their order does not matter.
    const fresh = [...this.#keys.keys()];
    while (fresh.length) {
      const endorser = fresh.pop();
      const given = byEndorser.get(endorser) ?? [];
      byEndorser.delete(endorser);
      for (const endorsement of given) {
        const claims = verified(endorsement, this.get(endorser), "key+jwt");
        requireClaim(claims, "aud", AUDIENCE);
        const kid = this.#add(own(claims, "jwk"));
        if (kid) fresh.push(kid);
      }
    }
  }

  // The kid must be the key's own thumbprint (RFC 7638), so that no key can take another's name.
  #add(jwk) {
    if (own(jwk ?? {}, "kty") !== "OKP" || own(jwk, "crv") !== "Ed25519" || Object.hasOwn(jwk, "d")) {
      throw new UntrustedAnswer("a key is no Ed25519 public key");
    }
    if ((own(jwk, "use") ?? "sig") !== "sig" || (own(jwk, "alg") ?? "EdDSA") !== "EdDSA") {
      throw new UntrustedAnswer("a key is not meant for EdDSA signatures");
    }
    const { x } = jwk;
    if (base64url(x, "a key").length !== 32) throw new UntrustedAnswer("a key is not 32 bytes");
    const kid = createHash("sha256").update(`{"crv":"Ed25519","kty":"OKP","x":"${x}"}`).digest("base64url");
    if (own(jwk, "kid") !== kid) throw new UntrustedAnswer("a key's kid is not its thumbprint");
    if (this.#keys.has(kid)) return null;
    this.#keys.set(kid, createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" }));
    return kid;
  }
}
