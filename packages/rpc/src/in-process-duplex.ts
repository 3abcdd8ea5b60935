import { AppError } from '@backend.ai/core';
import { type Duplex, type DuplexHandler, idleHandler } from './duplex.ts';

/**
 * Both ends of a link in one process. Messages are the same encoded text as on a socket and are delivered in a later
 * turn of the event loop, so that callers see the same order of things and nothing runs re-entrantly.
 */
class InProcessEnd implements Duplex {
  readonly remote: string;
  readonly channelBinding = '';
  handler: DuplexHandler = idleHandler;
  other!: InProcessEnd;
  bufferedAmount = 0;
  #inbox: string[] = [];
  #scheduled = false;
  #paused = false;
  #inboundLimit = Number.POSITIVE_INFINITY;
  /** Set when the other end said goodbye: delivered after the inbox. */
  #goodbye: string | undefined;
  #closed = false;

  constructor(remote: string) {
    this.remote = remote;
  }

  send(text: string): void {
    if (this.#closed || this.other.#closed) return;
    this.bufferedAmount += text.length;
    this.other.#accept(text);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#schedule();
  }

  close(reason: string): void {
    if (this.#closed) return;
    this.other.#goodbye ??= reason;
    this.other.#schedule();
    setImmediate(() => this.#end(reason));
  }

  terminate(): void {
    this.#inbox = [];
    this.other.#inbox = [];
    this.close('terminated');
  }

  limitInbound(bytes: number): void {
    this.#inboundLimit = bytes;
  }

  liftInboundLimit(): void {
    this.#inboundLimit = Number.POSITIVE_INFINITY;
  }

  #accept(text: string): void {
    this.#inbox.push(text);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    setImmediate(() => this.#deliver());
  }

  #deliver(): void {
    this.#scheduled = false;
    if (this.#closed) return;
    // A goodbye is an end even for a reader that pauses; a paused socket notices as well.
    if (this.#paused && this.#goodbye === undefined) return;
    const messages = this.#inbox;
    this.#inbox = [];
    for (const [index, text] of messages.entries()) {
      if (this.#paused && this.#goodbye === undefined) {
        this.#inbox = [...messages.slice(index), ...this.#inbox];
        break;
      }
      this.#inboundLimit -= text.length;
      if (this.#inboundLimit < 0) {
        this.terminate();
        return;
      }
      this.other.bufferedAmount -= text.length;
      this.handler.onMessage(text);
      if (this.#closed) return;
    }
    if (messages.length > this.#inbox.length && !this.other.#closed) this.other.handler.onDrain();
    if (this.#goodbye !== undefined) this.#end(this.#goodbye);
  }

  #end(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#inbox = [];
    this.handler.onClose(reason);
  }
}

type Acceptor = (duplex: Duplex) => void;

/** The listening names of this process, as ports are of a machine. */
const listeners = new Map<string, Acceptor>();

/** @throws AppError `port-in-use`. The returned function stops listening. */
export function listenInProcess(name: string, accept: Acceptor): () => void {
  if (listeners.has(name))
    throw new AppError('port-in-use', `The in-process address inproc:${name} is taken by another server.`);
  listeners.set(name, accept);
  return () => {
    if (listeners.get(name) === accept) listeners.delete(name);
  };
}

/** @throws AppError `server-unreachable` when nobody listens under this name */
export function dialInProcess(name: string): Duplex {
  const accept = listeners.get(name);
  if (!accept) throw new AppError('server-unreachable', `Nobody listens at inproc:${name}.`);
  const near = new InProcessEnd(`inproc:${name}`);
  const far = new InProcessEnd(`inproc:${name}`);
  near.other = far;
  far.other = near;
  accept(far);
  return near;
}
