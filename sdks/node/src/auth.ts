/** The auth secret: whether a request shows it. */

import type { IncomingMessage } from "node:http";
import { createHash, timingSafeEqual } from "node:crypto";

/** What a request says of the secret: it shows it, shows something else, or shows nothing. */
export type Claim = "right" | "wrong" | "absent";

/** Reads the claim of a request, in constant time. Two `Authorization` headers are a wrong one: nobody honest sends two. */
export function claimOf(request: IncomingMessage, secret: string): Claim {
  const values = request.headersDistinct["authorization"] ?? [];
  const [value] = values;
  if (value === undefined) return "absent";
  const [, token = ""] = /^bearer +(.*)$/i.exec(value) ?? [];
  const same = timingSafeEqual(digest(token.trim()), digest(secret));
  return values.length === 1 && same ? "right" : "wrong";
}

// Digests have one length, whatever was shown, so the comparison tells nothing about the secret's.
function digest(text: string): Buffer {
  return createHash("sha256").update(text, "utf8").digest();
}
