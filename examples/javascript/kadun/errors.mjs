// The errors. `forCustomer(language)` is the message for the customer, `message` is for the vendor.

import { TEXTS } from "./messages.mjs";

export class KadunError extends Error {
  textKey = "untrusted";

  forCustomer(language = "zh") {
    const [zh, en] = TEXTS[this.textKey];
    return language === "en" ? en : zh;
  }
}

/** The genuine server rejected the card with a signed verdict. */
export class CardRejected extends KadunError {
  constructor(code, reference) {
    super(`${code} (${reference})`);
    this.code = code;
    this.reference = reference;
    this.textKey = Object.hasOwn(TEXTS, code) ? code : "rejected";
  }

  forCustomer(language = "zh") {
    const said = super.forCustomer(language);
    return language === "en" ? `${said} (reference ${this.reference})` : `${said}（参考号 ${this.reference}）`;
  }
}

/** The card is valid, but the vendor no longer lets this version of the program open (UPDATE_REQUIRED). */
export class UpdateRequired extends CardRejected {
  /** `updateUrl`: open it only if it begins with https://. Both are null where the vendor names none. */
  constructor({ code, reference, latestVersion, updateUrl }) {
    super(code, reference);
    this.latestVersion = latestVersion;
    this.updateUrl = updateUrl;
  }
}

/**
 * The server refused to renew or unbind the card. Not signed: show it, but conclude nothing about the card.
 * `reason`: a word that says why a renewal is not allowed. `nextUnbindAt`: a Date, or null if it is not known.
 */
export class SelfServiceRefused extends KadunError {
  constructor(code, { reason = "", nextUnbindAt = null } = {}) {
    super(reason ? `${code}: ${reason}` : code);
    this.code = code;
    this.reason = reason;
    this.nextUnbindAt = nextUnbindAt;
    if (Object.hasOwn(TEXTS, `renew_${reason}`)) {
      this.textKey = `renew_${reason}`;
    } else if (code === "RENEW_NOT_ALLOWED") {
      this.textKey = "renew_not_possible";
    } else if (code === "UNBIND_NOT_ALLOWED") {
      this.textKey = nextUnbindAt ? "unbind_later" : "unbind_not_possible";
    } else {
      this.textKey = code === "NOT_FOUND" ? "self_service_off" : code;
    }
  }

  forCustomer(language = "zh") {
    const time = this.nextUnbindAt?.toLocaleString(language === "en" ? "en" : "zh-CN", { timeZoneName: "short" });
    return super.forCustomer(language).replace("{time}", () => time);
  }
}

/** No answer, or one that says to retry later. `passing`: whether an immediate retry may succeed. */
export class ServerUnreachable extends KadunError {
  textKey = "unreachable";

  constructor(message, { passing = false, retryAfter = null } = {}) {
    super(message);
    this.passing = passing;
    this.retryAfter = retryAfter;
  }
}

/** The answer is not from the genuine server, or not to this request. */
export class UntrustedAnswer extends KadunError {}

/** The server refused the request as malformed: usually a mistyped card. Not signed: conclude nothing about the card. */
export class RequestRefused extends KadunError {
  textKey = "refused";
}

/** The core data does not decrypt with this card's key. */
export class UnsealFailed extends KadunError {
  textKey = "unseal";
}
