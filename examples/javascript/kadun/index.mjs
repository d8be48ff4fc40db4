export { Client } from "./client.mjs";
export {
  CardRejected,
  KadunError,
  RequestRefused,
  SelfServiceRefused,
  ServerUnreachable,
  UnsealFailed,
  UntrustedAnswer,
  UpdateRequired,
} from "./errors.mjs";
