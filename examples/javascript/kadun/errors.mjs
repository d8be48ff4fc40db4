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
