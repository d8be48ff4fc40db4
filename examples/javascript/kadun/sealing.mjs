// The sealed KERNAL_DATA_KEY: a compact JWE, ECDH-ES over X25519 and A256GCM (RFC 7516, 7518, 8037).

import {
  createDecipheriv,
  createHash,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
} from "node:crypto";

import { UntrustedAnswer } from "./errors.mjs";
import { base64url, jsonObject, own } from "./decoding.mjs";

const PKCS8_X25519 = Buffer.from("302e020100300506032b656e04220420", "hex"); // RFC 8410; the 32 raw bytes follow
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export const privateKey = (raw) =>
  createPrivateKey({ key: Buffer.concat([PKCS8_X25519, raw]), format: "der", type: "pkcs8" });
export const publicKey = (raw) =>
  createPublicKey({ key: { kty: "OKP", crv: "X25519", x: raw.toString("base64url") }, format: "jwk" });
export const rawPublicKey = (key) => Buffer.from(createPublicKey(key).export({ format: "jwk" }).x, "base64url");

/** RFC 7518, section 4.6.2: one round of SHA-256 gives 256 bits. */
function concatKdf(shared) {
  const algorithm = Buffer.from("A256GCM", "ascii");
  const otherInfo = [uint32(algorithm.length), algorithm, uint32(0), uint32(0), uint32(256)]; // no PartyU, no PartyV
  return createHash("sha256").update(Buffer.concat([uint32(1), shared, ...otherInfo])).digest();
}

function uint32(number) {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(number);
  return bytes;
}

/** A new key pair for one start; only this process can decrypt what the server seals to it. */
export class KeyPair {
  #key;

  constructor(rawPrivateKey = null) {
    this.#key = rawPrivateKey ? privateKey(rawPrivateKey) : generateKeyPairSync("x25519").privateKey;
  }

  get publicKey() {
    return rawPublicKey(this.#key).toString("base64url");
  }

  /** Decrypt a sealed key to text. */
  open(sealed) {
    const parts = typeof sealed === "string" ? sealed.split(".") : [];
    if (parts.length !== 5 || parts[1] !== "") throw new UntrustedAnswer("the sealed key is not a compact JWE");
    const header = jsonObject(base64url(parts[0], "the sealed key's header"), "the sealed key's header");
    const epk = own(header, "epk");
    if (
      Object.keys(header).sort().join() !== "alg,enc,epk" ||
      header.alg !== "ECDH-ES" ||
      header.enc !== "A256GCM" ||
      Object.keys(Object(epk)).sort().join() !== "crv,kty,x" ||
      epk.kty !== "OKP" ||
      epk.crv !== "X25519"
    ) {
      throw new UntrustedAnswer("the sealed key's header is not alg ECDH-ES, enc A256GCM and epk");
    }
    const ephemeral = base64url(epk.x, "epk");
    const [iv, ciphertext, tag] = parts.slice(2).map((part) => base64url(part, "a part of the sealed key"));
    if (ephemeral.length !== 32 || iv.length !== 12 || tag.length !== 16) {
      throw new UntrustedAnswer("a part of the sealed key has a wrong length");
    }
    try {
      // OpenSSL refuses an all-zero shared secret (a point of low order). If your library does not, check it yourself.
      const shared = diffieHellman({ privateKey: this.#key, publicKey: publicKey(ephemeral) });
      const decipher = createDecipheriv("aes-256-gcm", concatKdf(shared), iv, { authTagLength: 16 });
      decipher.setAAD(Buffer.from(parts[0], "ascii")).setAuthTag(tag);
      return UTF8.decode(Buffer.concat([decipher.update(ciphertext), decipher.final()]));
    } catch {
      throw new UntrustedAnswer("the sealed key does not decrypt with this program's key");
    }
  }
}
