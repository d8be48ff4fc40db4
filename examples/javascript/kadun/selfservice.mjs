// Answers of self-service: a customer renews or unbinds a card. They are not signed, so they are for people only.

import { SelfServiceRefused, UntrustedAnswer } from "./errors.mjs";
import { own } from "./decoding.mjs";
import { errorFor, objectOrNull, problemCode } from "./responses.mjs";

const REFUSALS = ["RENEW_NOT_ALLOWED", "UNBIND_NOT_ALLOWED", "CARD_NOT_FOUND", "CLIENT_BLOCKED", "NOT_FOUND"];
const WORD = /^[a-z_]{1,32}$/;
const TIME = /^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9]{2}:[0-9]{2})$/;

export function cardStatusFrom(answer) {
  const document = objectOrNull(answer.body) ?? {};
  const code = problemCode(answer, document, REFUSALS);
  if (code) throw refusal(code, document);
  if (answer.status !== 200) throw errorFor(answer, document);
  const [status, bound, unbindsLeft] = ["status", "bound", "unbinds_left"].map((name) => own(document, name));
  if (typeof status !== "string" || !WORD.test(status) || typeof bound !== "boolean") {
    throw new UntrustedAnswer("the answer does not say the status of a card");
  }
  if (!Number.isSafeInteger(unbindsLeft) || unbindsLeft < 0) throw new UntrustedAnswer("unbinds_left is not a number");
  const [expiresAt, nextUnbindAt] = ["expires_at", "next_unbind_at"].map((name) => time(own(document, name), name));
  return { status, expiresAt, bound, unbindsLeft, nextUnbindAt };
}

function refusal(code, problem) {
  const reason = own(problem, "reason");
  let nextUnbindAt = null;
  try {
    nextUnbindAt = time(own(problem, "next_unbind_at"), "next_unbind_at");
  } catch {
    // The message then names no time.
  }
  return new SelfServiceRefused(code, { reason: typeof reason === "string" && WORD.test(reason) ? reason : "", nextUnbindAt });
}

// In ISO 8601 with offset; null where there is none.
function time(value, name) {
  if (value === null || value === undefined) return null;
  const found = new Date(typeof value === "string" && TIME.test(value) ? value : NaN);
  if (Number.isNaN(found.getTime())) throw new UntrustedAnswer(`${name} is not a time with an offset`);
  return found;
}
