// Reading what strangers wrote: JSON and base64url with nothing left to interpretation.

import { UntrustedAnswer } from "./errors.mjs";

const BASE64URL = /^[A-Za-z0-9_-]+$/;
const JSON_TOKENS = /"(?:[^"\\]|\\.)*"|[{}[\],]/g;
// `ignoreBOM` means: leave a byte order mark in the text, where JSON.parse then refuses it.
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** One JSON object in UTF-8 in which no name stands twice. */
export function jsonObject(bytes, what) {
  let value;
  try {
    const text = UTF8.decode(bytes);
    value = JSON.parse(text);
    refuseDuplicates(text);
  } catch {
    value = null;
  }
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    throw new UntrustedAnswer(`${what} is not a JSON object`);
  }
  return value;
}

// JSON.parse keeps the last of two members of one name, and says nothing. The text is known to be valid JSON, so
// that a string after `{` or after `,` within an object is a name.
function refuseDuplicates(text) {
  const open = []; // a Set of names for each object, null for each array
  let before = "";
  for (const [token] of text.matchAll(JSON_TOKENS)) {
    if (token === "{") open.push(new Set());
    else if (token === "[") open.push(null);
    else if (token === "}" || token === "]") open.pop();
    else if (token !== "," && (before === "{" || before === ",") && open.at(-1)) {
      const name = JSON.parse(token); // two spellings of one name are one name
      if (open.at(-1).has(name)) throw new SyntaxError("duplicate name");
      open.at(-1).add(name);
    }
    before = token;
  }
}

/** Bytes from base64url without padding, in its one canonical spelling: Buffer alone takes many others. */
export function base64url(text, what) {
  if (typeof text === "string" && BASE64URL.test(text)) {
    const bytes = Buffer.from(text, "base64url");
    if (bytes.toString("base64url") === text) return bytes;
  }
  throw new UntrustedAnswer(`${what} is not canonical base64url`);
}

/** A member of the object itself, never one that it inherits, as `constructor` is. */
export function own(object, name) {
  return Object.hasOwn(object, name) ? object[name] : undefined;
}
