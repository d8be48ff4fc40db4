// What this client sends, and what it makes of updates and of self-service: node --test test/client.test.mjs

import assert from "node:assert/strict";
import { createCipheriv, createHash, diffieHellman, generateKeyPairSync, sign } from "node:crypto";
import http from "node:http";
import { after, before, beforeEach, test } from "node:test";

import {
  CardRejected,
  Client,
  RequestRefused,
  SelfServiceRefused,
  ServerUnreachable,
  UnsealFailed,
  UntrustedAnswer,
  UpdateRequired,
} from "../kadun/index.mjs";
import { TEXTS } from "../kadun/messages.mjs";
import { publicKey as x25519 } from "../kadun/sealing.mjs";
import { OPEN } from "../kadun/verdict.mjs";

const CARD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const OTHER = "Z".repeat(32);
const NOW = 1_800_000_000;
const STATUS = {
  status: "active",
  expires_at: "2026-12-25T20:00:00+08:00",
  bound: true,
  unbinds_left: 1,
  next_unbind_at: null,
};

const { privateKey, publicKey } = generateKeyPairSync("ed25519");
const { x } = publicKey.export({ format: "jwk" });
const kid = createHash("sha256").update(`{"crv":"Ed25519","kty":"OKP","x":"${x}"}`).digest("base64url");
const publicKeys = { iss: "kadun", keys: [{ kty: "OKP", crv: "Ed25519", x, kid, use: "sig", alg: "EdDSA" }] };

const asked = []; // [path, body] of each request
let answer; // (path, body) => [status, document, contentType], or a promise of it
const server = http.createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", async () => {
    const body = JSON.parse(Buffer.concat(chunks));
    asked.push([request.url, body]);
    const [status, document, contentType = "application/json"] = await answer(request.url, body);
    response.writeHead(status, { "Content-Type": contentType }).end(JSON.stringify(document));
  });
});

before(() => new Promise((listening) => server.listen(0, "127.0.0.1", listening)));
after(() => server.close());
beforeEach(() => asked.splice(0));

const client = (options = {}) =>
  new Client(`http://127.0.0.1:${server.address().port}`, { publicKeys, cardId: CARD, hardware: "m1", ...options });
const problem = (status, code, members = {}) => () => [status, { code, status, ...members }, "application/problem+json"];

/** The genuine server's answer with these claims. */
const signed = (claims, status = 200) => (_path, body) => {
  const genuine = {
    iss: "kadun",
    aud: "kadun-client",
    sub: body.card_id,
    nonce: body.nonce,
    function: body.function,
    hardware_sha256: createHash("sha256").update(body.hardware).digest("hex"),
    iat: NOW,
    exp: NOW + 300,
    jti: "0123456789ABCDEF",
    code: "OK",
    accepted: true,
    activated: false,
    card_activated_at: NOW - 60,
    card_expires_at: NOW + 60,
    ...claims, // one that is undefined is left out
  };
  const encoded = (part) => Buffer.from(JSON.stringify(part)).toString("base64url");
  const text = `${encoded({ alg: "EdDSA", typ: "verdict+jwt", kid })}.${encoded(genuine)}`;
  return [status, { token: `${text}.${sign(null, Buffer.from(text), privateKey).toString("base64url")}` }];
};

test("the version is sent", async () => {
  answer = signed({});
  await client({ version: "1.10" }).report("导出报表");
  await client().report("导出报表");
  assert.deepEqual(asked.map(([, body]) => body.version), ["1.10", undefined]);
});

for (const version of ["", "1.", "v1", "1.4\n", "1".repeat(33), 1.4, null, ["1"]]) {
  test(`no version: ${JSON.stringify(version)}`, () => {
    assert.throws(() => client({ version }), { name: "TypeError", message: /dotted numbers such as "1.4"/ });
  });
}

test("notice and update are read", async () => {
  answer = signed({ notice: "今晚维护", latest_version: "1.10", update_url: "https://example.com/" });
  const { notice, latestVersion, updateUrl } = await client().report("导出报表");
  assert.deepEqual([notice, latestVersion, updateUrl], ["今晚维护", "1.10", "https://example.com/"]);
  answer = signed({});
  const none = await client().report("导出报表");
  assert.deepEqual([none.notice, none.latestVersion, none.updateUrl], [null, null, null]);
});

for (const claim of ["notice", "latest_version", "update_url"]) {
  for (const value of [null, "", 7, true, ["x"], {}]) {
    test(`${claim} ${JSON.stringify(value)} is untrusted`, async () => {
      answer = signed({ [claim]: value });
      await assert.rejects(client().report("导出报表"), UntrustedAnswer);
    });
  }
}

test("null, and only null, is a permanent card", async () => {
  answer = signed({});
  assert.deepEqual((await client().report("导出报表")).cardExpiresAt, new Date((NOW + 60) * 1000));
  answer = signed({ card_expires_at: null });
  assert.equal((await client().report("导出报表")).cardExpiresAt, null);
});

const FROZEN = { code: "CARD_FROZEN", accepted: false };
const EXPIRED = { code: "CARD_EXPIRED", accepted: false };
const malformed = [
  ...[undefined, "2027-01-15", true, -1, 253_402_300_800, [NOW]].map((value) => ({ card_expires_at: value })),
  ...[undefined, null, "", false, -1].map((value) => ({ card_activated_at: value })),
  ...[undefined, null, 0, 1, "true"].map((value) => ({ activated: value })),
  ...[NOW + 60, null].map((value) => ({ offline_until: value })), // a report is not an opening
  { iat: -600, exp: -500 },
  { iat: 9e12, exp: 9e12 + 10 },
  { ...FROZEN, activated: true },
  { ...FROZEN, activated: undefined },
  { ...FROZEN, offline_until: NOW + 60 },
  { ...EXPIRED, card_expires_at: undefined },
  { ...EXPIRED, card_activated_at: undefined },
];
for (const claims of malformed) {
  const shown = JSON.stringify(claims, (_name, value) => (value === undefined ? "(absent)" : value));
  test(`a verdict with ${shown} is untrusted`, async () => {
    answer = signed(claims);
    await assert.rejects(client().report("导出报表"), UntrustedAnswer);
  });
}

for (const claims of [FROZEN, EXPIRED, { ...EXPIRED, card_expires_at: null }]) {
  test(`a rejection is believed: ${JSON.stringify(claims)}`, async () => {
    const dates = claims.code === "CARD_FROZEN" ? { card_activated_at: undefined, card_expires_at: undefined } : {};
    answer = signed({ ...dates, ...claims });
    await assert.rejects(client().report("导出报表"), CardRejected);
  });
}

test("opening with report, which would ask for the key in clear, is a mistake of the program", async () => {
  answer = signed({ KERNAL_DATA_KEY: "AGE-SECRET-KEY-1" });
  await assert.rejects(client().report(OPEN), { name: "TypeError", message: /use open\(\)/ });
  assert.deepEqual(asked, []);
});

/** A key, sealed to the request's public key as in docs/protocol.md, "The sealed key". */
function sealed({ client_public_key: recipient }) {
  const { privateKey: ours, publicKey: epk } = generateKeyPairSync("x25519");
  const shared = diffieHellman({ privateKey: ours, publicKey: x25519(Buffer.from(recipient, "base64url")) });
  // Concat KDF: round 1, the secret, the algorithm's length and name, no PartyUInfo, no PartyVInfo, 256 bits.
  const info = Buffer.from("\0\0\0\x07A256GCM\0\0\0\0\0\0\0\0\0\0\x01\0", "latin1");
  const key = createHash("sha256").update(Buffer.concat([Buffer.from([0, 0, 0, 1]), shared, info])).digest();
  const header = Buffer.from(JSON.stringify({ alg: "ECDH-ES", enc: "A256GCM", epk: epk.export({ format: "jwk" }) }));
  const cipher = createCipheriv("aes-256-gcm", key, Buffer.alloc(12)).setAAD(Buffer.from(header.toString("base64url")));
  const text = Buffer.concat([cipher.update("a key"), cipher.final()]);
  const parts = [header, "", Buffer.alloc(12), text, cipher.getAuthTag()];
  return parts.map((part) => part.toString("base64url")).join(".");
}

const opened = (path, body) => signed({ KERNAL_DATA_KEY_SEALED: sealed(body) })(path, body);
const frozenAt = (iat) => signed({ ...FROZEN, iat, exp: iat + 300 }, 403);
const LOCKED = /call open\(\) first/;
const UNLOCKED = /no age identity/; // it has the key, which is not a real one
const unsealing = (program, message) =>
  assert.throws(() => program.unseal(Buffer.from("x")), (failure) => {
    assert.ok(failure instanceof UnsealFailed);
    assert.match(failure.message, message);
    return true;
  });

/** Open, while a report is answered with a rejection that the server signed at this time. */
async function openBesideRejection(program, iat) {
  answer = async (path, body) => {
    if (body.function !== OPEN) return frozenAt(iat)(path, body);
    await assert.rejects(program.report("导出报表"), CardRejected);
    return opened(path, body);
  };
  return program.open();
}

for (const iat of [NOW, NOW + 1]) {
  test(`a rejection ${iat - NOW} s later than an opening in progress ends it`, async () => {
    const program = client();
    await assert.rejects(openBesideRejection(program, iat), { code: "CARD_FROZEN", reference: "89ABCDEF" });
    unsealing(program, LOCKED);
    answer = opened; // unfrozen: even if no second has passed
    await program.open();
    unsealing(program, UNLOCKED);
  });
}

test("a rejection that is earlier than an opening in progress does not end it", async () => {
  const program = client();
  await openBesideRejection(program, NOW - 1);
  unsealing(program, UNLOCKED);
});

for (const [code, message] of [["CARD_FROZEN", LOCKED], ["UPDATE_REQUIRED", UNLOCKED], ["FUNCTION_FAILED", UNLOCKED]]) {
  test(`${code} of a report ${message === LOCKED ? "revokes" : "leaves"} the key`, async () => {
    const program = client();
    answer = opened;
    await program.open();
    answer = signed({ ...FROZEN, code }, 403);
    await assert.rejects(program.report("导出报表"), CardRejected);
    unsealing(program, message);
  });
}

test("a required update is an error of its own", async () => {
  const claims = { code: "UPDATE_REQUIRED", accepted: false, latest_version: "2.0", update_url: "https://example.com/" };
  answer = signed(claims, 403);
  await assert.rejects(client().report("导出报表"), (failure) => {
    assert.ok(failure instanceof UpdateRequired && failure instanceof CardRejected);
    assert.deepEqual([failure.latestVersion, failure.updateUrl], ["2.0", "https://example.com/"]);
    assert.match(failure.forCustomer("zh"), /参考号 89ABCDEF/);
    return true;
  });
  answer = () => [403, { ...claims, message: "x" }]; // without a token
  await assert.rejects(client().report("导出报表"), UntrustedAnswer);
});

test("renewing and unbinding send the cards and return the status", async () => {
  answer = () => [200, STATUS];
  const status = { status: "active", expiresAt: new Date(STATUS.expires_at), bound: true, unbindsLeft: 1, nextUnbindAt: null };
  assert.deepEqual(await client().renew(` ${OTHER} `), status);
  assert.deepEqual(await client().unbind(), status);
  assert.deepEqual(asked, [
    ["/v1/self/renew", { card_id: CARD, with_card_id: OTHER }],
    ["/v1/self/unbind", { card_id: CARD }],
  ]);
});

const odd = [
  { status: 7 },
  { status: "\u001b[2J" },
  { bound: 1 },
  { unbinds_left: null },
  { unbinds_left: -1 },
  { unbinds_left: 1.5 },
  { expires_at: "2026-12-25T20:00:00" },
  { expires_at: "soon" },
  { next_unbind_at: 1 },
];
for (const change of odd) {
  test(`a status with ${JSON.stringify(change)} is untrusted`, async () => {
    answer = () => [200, { ...STATUS, ...change }];
    await assert.rejects(client().unbind(), UntrustedAnswer);
  });
}

for (const [key, [zh, en]] of Object.entries(TEXTS).filter(([name]) => name.startsWith("renew_"))) {
  test(`refused: ${key}`, async () => {
    answer = problem(403, "RENEW_NOT_ALLOWED", { reason: key.slice("renew_".length) });
    await assert.rejects(client().renew(OTHER), (failure) => {
      assert.ok(failure instanceof SelfServiceRefused);
      assert.deepEqual([failure.forCustomer("zh"), failure.forCustomer("en")], [zh, en]);
      return true;
    });
  });
}

test("an unknown second card is not taken for the customer's own", async () => {
  answer = problem(404, "CARD_NOT_FOUND", { reason: "second_card_not_found", field: "with_card_id" });
  await assert.rejects(client().renew(OTHER), (failure) => failure.forCustomer() === TEXTS.renew_second_card_not_found[0]);
});

for (const reason of ["on_holiday", "constructor", "", null, undefined, 7, ["same_card"], "\u001b[2J"]) {
  test(`an odd reason has the general message: ${JSON.stringify(reason)}`, async () => {
    answer = problem(403, "RENEW_NOT_ALLOWED", { reason });
    await assert.rejects(client().renew(OTHER), (failure) => failure.forCustomer("zh") === TEXTS.renew_not_possible[0]);
  });
}

test("a refusal to unbind names the time", async () => {
  answer = problem(403, "UNBIND_NOT_ALLOWED", { next_unbind_at: "2026-12-25T20:00:45+08:00" });
  await assert.rejects(client().unbind(), (failure) => {
    assert.equal(failure.nextUnbindAt.toISOString(), "2026-12-25T12:00:45.000Z");
    assert.match(failure.forCustomer("en"), /possible from .*2026.*:00:45/);
    return true;
  });
  answer = problem(403, "UNBIND_NOT_ALLOWED", { next_unbind_at: "soon" });
  await assert.rejects(client().unbind(), (failure) => failure.forCustomer("en") === TEXTS.unbind_not_possible[1]);
});

const answers = [
  [problem(404, "NOT_FOUND"), SelfServiceRefused, TEXTS.self_service_off[0]],
  [problem(404, "CARD_NOT_FOUND"), SelfServiceRefused, TEXTS.CARD_NOT_FOUND[0]],
  [problem(403, "CLIENT_BLOCKED"), SelfServiceRefused, TEXTS.CLIENT_BLOCKED?.[0]],
  [problem(400, "INVALID_REQUEST"), RequestRefused, TEXTS.refused[0]],
  [problem(429, "TOO_MANY_REQUESTS"), ServerUnreachable, TEXTS.unreachable[0]],
  [problem(403, "PORTAL_LOGIN"), UntrustedAnswer, TEXTS.untrusted[0]],
  [() => [403, { code: "RENEW_NOT_ALLOWED" }], UntrustedAnswer, TEXTS.untrusted[0]],
  [() => [200, {}], UntrustedAnswer, TEXTS.untrusted[0]],
  [() => [302, STATUS], UntrustedAnswer, TEXTS.untrusted[0]],
];
for (const [number, [given, kind, message]] of answers.entries()) {
  test(`answer ${number} of self-service, asked for once: ${kind.name}`, async () => {
    answer = given;
    await assert.rejects(client().renew(OTHER), (failure) => failure instanceof kind && failure.forCustomer() === message);
    assert.equal(asked.length, 1);
  });
}
