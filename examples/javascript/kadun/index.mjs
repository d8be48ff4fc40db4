export { Client } from "./client.mjs";
export {
  CardRejected,
  KadunError,
  RequestRefused,
  ServerUnreachable,
  UnsealFailed,
  UntrustedAnswer,
} from "./errors.mjs";
