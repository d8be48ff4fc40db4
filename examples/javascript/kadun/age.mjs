// Decrypts age files (https://age-encryption.org/v1) with X25519 recipients, as made by `cardctl seal`.

import { createDecipheriv, createHmac, diffieHellman, hkdfSync, timingSafeEqual } from "node:crypto";

import { UnsealFailed } from "./errors.mjs";
import { privateKey, publicKey, rawPublicKey } from "./sealing.mjs";

const VERSION = "age-encryption.org/v1";
const LARGEST_HEADER = 64 * 1024;
const CHUNK = 64 * 1024;
const TAG = 16;
const BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const NOTHING = Buffer.alloc(0);

/** Decrypt a file with KERNAL_DATA_KEY, whose lines are age identities; each is tried. */
export function decryptAge(file, dataKey) {
  const identities = dataKey.split(/\r\n|\r|\n/).map(identity).filter(Boolean);
  if (!identities.length) throw new UnsealFailed("KERNAL_DATA_KEY contains no age identity");
  try {
    return decrypt(file, identities);
  } catch (failure) {
    throw failure instanceof UnsealFailed ? failure : new UnsealFailed("the core data is damaged");
  }
}

function decrypt(file, identities) {
  const { stanzas, covered, mac, body } = parseHeader(file);
  const fileKey = unwrap(stanzas, identities);
  if (!fileKey) throw new UnsealFailed("no identity fits this core data");
  const expected = createHmac("sha256", derive(fileKey, NOTHING, "header")).update(covered).digest();
  if (mac.length !== expected.length || !timingSafeEqual(mac, expected)) {
    throw new UnsealFailed("the core data's header was changed");
  }
  if (body.length < 16 + TAG) throw new UnsealFailed("the core data is cut short");
  return decryptChunks(derive(fileKey, body.subarray(0, 16), "payload"), body.subarray(16));
}

// Line by line: the version, stanzas of `-> type arguments` with a body in base64, and `--- MAC`.
function parseHeader(file) {
  const text = file.subarray(0, LARGEST_HEADER).toString("latin1");
  const lines = text.split("\n");
  if (lines.shift() !== VERSION) throw new UnsealFailed("this is not an age file");
  const stanzas = [];
  let offset = VERSION.length + 1;
  while (lines.length > 1) {
    const line = lines.shift();
    if (line.startsWith("--- ")) {
      const covered = file.subarray(0, offset + 3);
      return { stanzas, covered, mac: base64(line.slice(4)), body: file.subarray(offset + line.length + 1) };
    }
    offset += line.length + 1;
    if (!line.startsWith("-> ")) throw new UnsealFailed("the core data's header is damaged");
    let body = "";
    let part;
    do {
      part = lines.shift() ?? "";
      offset += part.length + 1;
      body += part;
    } while (part.length === 64); // a shorter line, or an empty one, ends it
    stanzas.push({ words: line.slice(3).split(" "), body: base64(body) });
  }
  throw new UnsealFailed("the core data's header has no end");
}

// age's base64 is the standard alphabet without padding, canonical.
function base64(text) {
  const bytes = Buffer.from(text, "base64");
  if (bytes.toString("base64").replace(/=+$/, "") !== text) throw new UnsealFailed("base64 is damaged");
  return bytes;
}

function unwrap(stanzas, identities) {
  for (const { words, body } of stanzas) {
    if (words[0] !== "X25519" || words.length !== 2 || body.length !== 32) continue;
    const share = base64(words[1]);
    if (share.length !== 32) throw new UnsealFailed("a share is damaged");
    for (const key of identities) {
      const shared = diffieHellman({ privateKey: key, publicKey: publicKey(share) });
      const wrapKey = derive(shared, Buffer.concat([share, rawPublicKey(key)]), `${VERSION}/X25519`);
      try {
        return open(wrapKey, Buffer.alloc(12), body);
      } catch {
        // for another identity
      }
    }
  }
  return null;
}

// STREAM: chunks of 64 KiB; the nonce counts them in 11 bytes, and its last byte marks the last one.
function decryptChunks(key, sealed) {
  const nonce = Buffer.alloc(12);
  const plain = [];
  for (let start = 0, count = 0; start < sealed.length; start += CHUNK + TAG, count += 1) {
    const chunk = sealed.subarray(start, start + CHUNK + TAG);
    const last = start + chunk.length === sealed.length;
    if (chunk.length === TAG && count > 0) throw new UnsealFailed("an empty last chunk");
    nonce.writeUIntBE(count, 5, 6);
    nonce[11] = last ? 1 : 0;
    plain.push(open(key, nonce, chunk));
  }
  return Buffer.concat(plain);
}

function open(key, nonce, sealed) {
  const decipher = createDecipheriv("chacha20-poly1305", key, nonce, { authTagLength: TAG });
  decipher.setAuthTag(sealed.subarray(sealed.length - TAG));
  return Buffer.concat([decipher.update(sealed.subarray(0, sealed.length - TAG)), decipher.final()]);
}

function derive(secret, salt, info) {
  return Buffer.from(hkdfSync("sha256", secret, salt, info, 32));
}

// Decode `AGE-SECRET-KEY-1…`, Bech32 (BIP 173) of 32 bytes; null for any other line.
function identity(line) {
  const text = line.trim();
  if (!text.startsWith("AGE-SECRET-KEY-1") || text !== text.toUpperCase()) return null;
  const values = [...text.slice(16).toLowerCase()].map((letter) => BECH32.indexOf(letter));
  const prefix = [..."age-secret-key-"].map((letter) => letter.charCodeAt(0));
  const checked = [...prefix.map((code) => code >> 5), 0, ...prefix.map((code) => code & 31), ...values];
  if (values.includes(-1) || polymod(checked) !== 1) return null;
  const bits = values.slice(0, -6).map((value) => value.toString(2).padStart(5, "0")).join("");
  const bytes = bits.slice(0, 256).match(/.{8}/g) ?? [];
  if (bits.length !== 260 || bits.slice(256) !== "0000") return null;
  return privateKey(Buffer.from(bytes.map((byte) => Number.parseInt(byte, 2))));
}

function polymod(values) {
  const generators = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];
  let sum = 1;
  for (const value of values) {
    const top = sum >>> 25;
    sum = ((sum & 0x1ffffff) << 5) ^ value;
    generators.forEach((generator, bit) => {
      if ((top >> bit) & 1) sum ^= generator;
    });
  }
  return sum;
}
