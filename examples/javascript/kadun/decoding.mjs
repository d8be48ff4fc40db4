// Strict decoding of JSON and base64url from untrusted sources.

import { UntrustedAnswer } from "./errors.mjs";

const BASE64URL = /^[A-Za-z0-9_-]+$/;
const JSON_TOKENS = /"(?:[^"\\]|\\.)*"|[{}[\],]/g;
// `ignoreBOM` means: leave a byte order mark in the text, where JSON.parse then refuses it.
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Parse one JSON object in UTF-8 without duplicate names. */
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

// JSON.parse silently keeps the last of two members with the same name. The text is valid JSON, so a string after
// `{`, or after `,` in an object, is a name.
function refuseDuplicates(text) {
  const open = []; // a Set of names for each object, null for each array
  let before = "";
  for (const [token] of text.matchAll(JSON_TOKENS)) {
    if (token === "{") open.push(new Set());
    else if (token === "[") open.push(null);
    else if (token === "}" || token === "]") open.pop();
    else if (token !== "," && (before === "{" || before === ",") && open.at(-1)) {
      const name = JSON.parse(token); // different escapes of the same name are the same name
      if (open.at(-1).has(name)) throw new SyntaxError("duplicate name");
      open.at(-1).add(name);
    }
    before = token;
  }
}

/** Decode canonical base64url without padding; Buffer accepts many other spellings. */
export function base64url(text, what) {
  if (typeof text === "string" && BASE64URL.test(text)) {
    const bytes = Buffer.from(text, "base64url");
    if (bytes.toString("base64url") === text) return bytes;
  }
  throw new UntrustedAnswer(`${what} is not canonical base64url`);
}

/** A member of the object itself, never an inherited one such as `constructor`. */
export function own(object, name) {
  return Object.hasOwn(object, name) ? object[name] : undefined;
}
