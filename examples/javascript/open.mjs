// A program that opens with a valid card and prints its core data, or prints why the card was rejected.
//
//   KADUN_URL=https://card.example.com KADUN_KEYS=keys.json KADUN_CARD=卡密 KADUN_HARDWARE=机器码 \
//     KADUN_CORE=core.age node open.mjs
//
// Exit status: 0 opened, 3 the card was rejected, 1 anything else, as `python -m kadun_conformance` requires.

import { readFile } from "node:fs/promises";

import { CardRejected, Client, KadunError, UpdateRequired } from "./kadun/index.mjs";

// The vendor's text for a terminal: without control and bidirectional characters, other than those in `kept`.
const printable = (text, kept = "") =>
  text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => (kept.includes(character) ? character : "?"));
const IN_NOTICES = "\n\u200d"; // line feeds, and what joins emoji

const settings = process.env;
const language = settings.KADUN_LANGUAGE === "en" ? "en" : "zh";
const text = (path) => readFile(path, "utf8");

try {
  for (const name of ["KADUN_URL", "KADUN_KEYS", "KADUN_CARD", "KADUN_HARDWARE", "KADUN_CORE"]) {
    if (!settings[name]) throw new Error(`${name} is not set`);
  }
  const client = new Client(settings.KADUN_URL, {
    publicKeys: JSON.parse(await text(settings.KADUN_KEYS)),
    cardId: settings.KADUN_CARD,
    hardware: settings.KADUN_HARDWARE,
    version: settings.KADUN_VERSION || undefined,
    language,
    timeoutMs: 1000 * Number(settings.KADUN_TIMEOUT_SECONDS ?? 10),
    ca: settings.KADUN_CA ? await text(settings.KADUN_CA) : undefined,
  });
  const verdict = await client.open();
  const core = client.unseal(await readFile(settings.KADUN_CORE));
  if (verdict.notice) console.error(printable(verdict.notice, IN_NOTICES));
  if (verdict.activated) console.error("卡密已激活 / the card is now activated");
  process.stdout.write(core);
} catch (failure) {
  const known = failure instanceof KadunError;
  console.error(known ? `${failure.forCustomer(language)} [${failure.message}]` : `${failure.message}`);
  // Only https: the address leads to a program to install.
  if (failure instanceof UpdateRequired && failure.updateUrl?.startsWith("https://")) {
    console.error(`${language === "en" ? "Update" : "更新"}: ${printable(failure.updateUrl)}`);
  }
  process.exitCode = failure instanceof CardRejected ? 3 : 1;
}
