import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";

/** Writes a key, and a certificate for localhost that is its own authority. Returns the paths of both files. */
export async function certificateIn(
  directory: string,
): Promise<{ readonly key: string; readonly certificate: string }> {
  const [key, certificate] = [join(directory, "key.pem"), join(directory, "cert.pem")];
  // prettier-ignore
  await promisify(execFile)("openssl", [
    "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "1",
    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
  ]);
  return { key, certificate };
}
