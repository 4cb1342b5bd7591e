/** A plugin's pages: files below `/ui/`, with the cache rules of a built single-page application. */

import { createHash } from "node:crypto";
import { readFile, realpath, stat } from "node:fs/promises";
import { existsSync } from "node:fs";
import { extname, join, sep } from "node:path";
import { problem } from "./request.js";

/** Files whose name holds a hash of their content never change. */
const FOR_EVER = "public, max-age=31536000, immutable";

/** Other files are asked for again each time, and answered 304 while they are the same. */
const ASK_AGAIN = "no-cache";

/** A name like `index-DiwrgTda.js`: a hash has 8 characters or more, a digit or a capital among them. */
const HASHED = /^.+[-.](?=[A-Za-z0-9_]*[0-9A-Z])[A-Za-z0-9_]{8,}\.[^.]+$/;

const TYPES: Record<string, string> = {
  html: "text/html; charset=utf-8",
  htm: "text/html; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  mjs: "text/javascript; charset=utf-8",
  css: "text/css; charset=utf-8",
  json: "application/json",
  map: "application/json",
  webmanifest: "application/manifest+json",
  svg: "image/svg+xml",
  png: "image/png",
  jpg: "image/jpeg",
  jpeg: "image/jpeg",
  gif: "image/gif",
  webp: "image/webp",
  avif: "image/avif",
  ico: "image/x-icon",
  woff: "font/woff",
  woff2: "font/woff2",
  ttf: "font/ttf",
  wasm: "application/wasm",
  txt: "text/plain; charset=utf-8",
  md: "text/plain; charset=utf-8",
};

/**
 * A page: a directory with an `index.html`, or its files by path, for a plugin that is one file. Files are given to
 * anybody who asks, so they must hold no secrets.
 */
export type Assets = string | Readonly<Record<string, string | Uint8Array>>;

/** The files of a page. They ask for no secret: they are the same for everybody. */
export class Pages {
  constructor(private readonly assets: Assets) {
    const hasIndex = typeof assets === "string" ? existsSync(join(assets, "index.html")) : Object.hasOwn(assets, "index.html");
    if (!hasIndex) {
      const where = typeof assets === "string" ? assets : "the page";
      throw new Error(`${where} has no index.html; build the page first`);
    }
  }

  /** Answers a request whose path begins with `/ui`. */
  async answer(method: string, path: string, knownTag: string | undefined): Promise<Response> {
    if (method !== "GET" && method !== "HEAD") return problem(405, "pages are only read", { allow: "GET, HEAD" });
    // Relative, so that it holds behind any prefix.
    if (path === "/ui") return new Response(null, { status: 301, headers: { location: "ui/" } });
    const found = await this.find(path.slice("/ui/".length).replace(/\/+$/, ""));
    if (found === undefined) return problem(404, "there is no such file");
    const tag = `"${createHash("sha256").update(found.data).digest("hex").slice(0, 16)}"`;
    const headers = {
      "cache-control": HASHED.test(found.name) ? FOR_EVER : ASK_AGAIN,
      etag: tag,
      "x-content-type-options": "nosniff",
    };
    if (knownTag === tag) return new Response(null, { status: 304, headers });
    const type = TYPES[extname(found.name).slice(1).toLowerCase()] ?? "application/octet-stream";
    const length = String(found.data.length);
    return new Response(found.data as Uint8Array<ArrayBuffer>, {
      headers: { ...headers, "content-type": type, "content-length": length },
    });
  }

  /** The file at `path`; for a path without an extension, which is a page of the application, its index. */
  private async find(path: string): Promise<{ name: string; data: Uint8Array } | undefined> {
    const name = path.split("/").at(-1) ?? "";
    const data = await this.read(path);
    if (data !== undefined) return { name, data };
    const index = name.includes(".") ? undefined : await this.read("index.html");
    return index === undefined ? undefined : { name: "index.html", data: index };
  }

  private async read(path: string): Promise<Uint8Array | undefined> {
    if (typeof this.assets !== "string") {
      const file = Object.hasOwn(this.assets, path) ? this.assets[path] : undefined;
      return typeof file === "string" ? Buffer.from(file) : file;
    }
    if (path.includes("\0")) return undefined;
    try {
      // Followed to its end first, so that no link and no `..` leads out of the directory.
      const root = await realpath(this.assets);
      const file = await realpath(join(root, path));
      if (!file.startsWith(root + sep) || !(await stat(file)).isFile()) return undefined;
      return await readFile(file);
    } catch {
      return undefined;
    }
  }
}
