// The certificate with which the bench wants a server to speak TLS; undefined if it wants none.

import { readFileSync } from "node:fs";

export function tls() {
  const { BENCH_TLS_CERT: cert, BENCH_TLS_KEY: key } = process.env;
  return cert && key ? { cert: readFileSync(cert), key: readFileSync(key) } : undefined;
}
