// This client against the project's test vectors: node --test test/vectors.test.mjs

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { decryptAge } from "../kadun/age.mjs";
import { UnsealFailed, UntrustedAnswer } from "../kadun/errors.mjs";
import { TrustedKeys } from "../kadun/keys.mjs";
import { KeyPair } from "../kadun/sealing.mjs";
import { keyId } from "../kadun/tokens.mjs";
import { verifyVerdict } from "../kadun/verdict.mjs";

const vectors = (name) => JSON.parse(readFileSync(new URL(`../../../tests/vectors/${name}.json`, import.meta.url)));
const good = vectors("answers-good");
const bad = [...vectors("answers-bad").answers, ...vectors("endorsements-bad").answers];
const keyPair = (vector) => new KeyPair(Buffer.from(vector.client_private_key, "base64url"));

function answered(vector, token = vector.token, opened = keyPair(vector)) {
  const keys = new TrustedKeys(good.pinned);
  if (vector.key_set_base64 && !keys.has(keyId(token))) keys.learn(Buffer.from(vector.key_set_base64, "base64"));
  const body = Buffer.from(vector.request_body_base64 ?? "", "base64"); // where the token is bound to it
  return verifyVerdict(token, vector.request, body, keys, opened);
}

function accepted(work) {
  try {
    return work();
  } catch (failure) {
    assert.ok(failure instanceof UntrustedAnswer, String(failure.stack));
    return null;
  }
}

for (const vector of good.answers) {
  test(`good: ${vector.why}`, () => {
    const verdict = answered(vector);
    assert.equal(verdict.code, vector.code);
    assert.equal(verdict.accepted, vector.expected === "opened");
    assert.equal(verdict.reference, vector.jti.slice(-8));
    assert.equal(verdict.dataKey, vector.data_key);
    assert.equal(verdict.notice, vector.notice ?? null);
    assert.equal(verdict.latestVersion, vector.latest_version ?? null);
    assert.equal(verdict.updateUrl, vector.update_url ?? null);
    assert.ok(!vector.data_key || !JSON.stringify(verdict).includes(vector.data_key));
  });
}

for (const vector of good.answers.filter((_, place) => place % 5 === 0)) {
  test(`no changed character is accepted: ${vector.why}`, () => {
    const { token } = vector;
    const opened = keyPair(vector);
    for (let place = 0; place < token.length; place += 1) {
      const other = String.fromCharCode(token.charCodeAt(place) ^ 1);
      const changed = token.slice(0, place) + other + token.slice(place + 1);
      assert.equal(accepted(() => answered(vector, changed, opened)), null, `character ${place}`);
    }
  });
}

for (const vector of bad) {
  test(`bad: ${vector.why}`, () => assert.equal(accepted(() => answered(vector)), null));
}

for (const vector of vectors("keys")) {
  test(`key ${vector.name}`, () => assert.ok(new TrustedKeys({ iss: "kadun", keys: [vector.jwk] }).has(vector.thumbprint)));
}

for (const vector of vectors("requests")) {
  test(`digest of ${vector.utf8_hex.slice(0, 12)}`, () => {
    assert.equal(createHash("sha256").update(vector.hardware, "utf8").digest("hex"), vector.hardware_sha256);
  });
}

for (const vector of vectors("sealed-keys")) {
  test(`sealed: ${vector.name}`, () => {
    assert.equal(keyPair(vector).publicKey, vector.client_public_key);
    assert.equal(keyPair(vector).open(vector.jwe), vector.plaintext);
  });
}

for (const vector of vectors("age-files")) {
  test(`age: ${vector.name}`, () => {
    const file = Buffer.from(vector.file_base64, "base64");
    if (vector.expected === "refused") {
      assert.throws(() => decryptAge(file, vector.data_key), UnsealFailed);
      return;
    }
    const core = decryptAge(file, vector.data_key);
    assert.equal(core.length, vector.plaintext_bytes);
    assert.equal(createHash("sha256").update(core).digest("hex"), vector.plaintext_sha256);
  });
}
