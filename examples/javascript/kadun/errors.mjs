// The errors. `forCustomer(language)` is the message for the customer, `message` is for the vendor.

const TEXTS = {
  CARD_NOT_FOUND: ["卡密不存在，请检查输入", "No such card: please check what you typed"],
  CARD_FROZEN: ["卡密已被冻结，请联系卖家", "The card is frozen: please ask the vendor"],
  CARD_EXPIRED: ["卡密已过期，请续费", "The card has expired: please renew it"],
  CLIENT_MISMATCH: [
    "卡密已绑定其他设备，如已更换设备请联系卖家解绑",
    "The card is bound to another device: ask the vendor to unbind it",
  ],
  CLIENT_HAS_ANOTHER_CARD: ["本机已绑定另一张有效卡密", "This device is bound to another live card"],
  rejected: ["卡密未通过验证，请联系卖家", "The card was rejected: please ask the vendor"],
  unreachable: ["无法连接验证服务器，请检查网络后重试", "Cannot reach the server: check the network and try again"],
  untrusted: ["验证服务器的响应不可信，请检查网络（如登录页、代理）", "The answer is not the genuine server's"],
  refused: ["请求有误，请检查卡密是否输错", "The request was refused: please check the card"],
  unseal: ["核心数据无法解密，请重新安装或联系卖家", "The core data cannot be decrypted: install again or ask the vendor"],
};

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
    return language === "en" ? `${said} (reference: ${this.reference})` : `${said}（参考号 ${this.reference}）`;
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
