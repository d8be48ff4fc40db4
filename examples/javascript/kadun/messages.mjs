// What customers read, in Chinese and English, by code of a verdict or kind of failure: the file of the SDK.
// Your program ships a copy of it beside this module.

import { existsSync, readFileSync } from "node:fs";

const own = new URL("messages.json", import.meta.url);
const shared = new URL("../../../client/src/kadun/messages.json", import.meta.url);

export const { texts: TEXTS } = JSON.parse(readFileSync(existsSync(own) ? own : shared, "utf-8"));
