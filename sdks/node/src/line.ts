/** Events on their way to the plugin's handler: a bounded line that is worked off in order, one event at a time. */

import type { EventSink } from "./channel.js";
import type { PluginEvent } from "./event.js";
import { describe, logger } from "./log.js";

/** Most events that wait at once before the channel is no longer read. A host stops at 64 without acks of them. */
const MAX_WAITING = 10_000;

/** Most bytes of waiting events, as they stood on the wire. */
const MAX_WAITING_BYTES = 8 * 1024 * 1024;

/** How long one event may be worked on, in milliseconds: less than the 30 s after which a host counts it as failed. */
export const HANDLING_TIMEOUT = 25_000;

/** Works on one event. The signal is aborted when its time is over. */
export type Handle = (event: PluginEvent, signal: AbortSignal) => Promise<void>;

interface Waiting {
  event: PluginEvent;
  bytes: number;
  done: (failure: string | undefined) => void;
}

/** The line. */
export class EventLine implements EventSink {
  private readonly line: Waiting[] = [];
  private bytes = 0;
  private started = false;
  private closed = false;
  private working: Promise<void> | undefined;
  private readonly watchers: Array<() => void> = [];

  constructor(
    private readonly handle: Handle,
    private readonly timeout = HANDLING_TIMEOUT,
  ) {}

  push(event: PluginEvent, bytes: number, done: (failure: string | undefined) => void): void {
    if (this.closed) return done("the plugin is ending");
    this.line.push({ event, bytes, done });
    this.bytes += bytes;
    this.work();
  }

  hasRoom(): boolean {
    return this.line.length < MAX_WAITING && this.bytes < MAX_WAITING_BYTES;
  }

  whenRoom(call: () => void): void {
    this.watchers.push(call);
  }

  /** Begins to work the line off. */
  start(): void {
    this.started = true;
    this.work();
  }

  /** Takes in nothing more; resolves when what is in the line was handled. Without a start nothing is. */
  async close(): Promise<void> {
    this.closed = true;
    await this.working;
  }

  private work(): void {
    if (!this.started || this.working !== undefined || this.line.length === 0) return;
    this.working = this.workOff().finally(() => {
      this.working = undefined;
      this.work();
    });
  }

  private async workOff(): Promise<void> {
    for (let next = this.line.shift(); next !== undefined; next = this.line.shift()) {
      const failure = await this.one(next.event);
      this.bytes -= next.bytes;
      next.done(failure);
      if (this.hasRoom()) for (const call of this.watchers.splice(0)) call();
    }
  }

  private async one(event: PluginEvent): Promise<string | undefined> {
    const ends = new AbortController();
    const late = `the handler took longer than ${this.timeout / 1000} s`;
    let timer: NodeJS.Timeout | undefined;
    const about = { event_id: event.id, event_type: event.event_type };
    try {
      const handled = this.handle(event, ends.signal).then(() => undefined);
      const over = new Promise<string>((resolve) => (timer = setTimeout(() => resolve(late), this.timeout)));
      const failure = await Promise.race([handled, over]);
      if (failure === undefined) return undefined;
      ends.abort(new Error(failure));
      // It goes on beside the next one; how it ends can no longer be told to the host.
      handled.catch((error: unknown) => logger.error(`an event failed after its time: ${describe(error)}`, about));
      logger.error(`an event was not handled: ${failure}`, about);
      return failure;
    } catch (error) {
      logger.error(`an event was not handled: ${describe(error, true)}`, about);
      return describe(error);
    } finally {
      clearTimeout(timer);
    }
  }
}
