import { connect, type Socket } from 'node:net';

/** A request as bytes, head and all: the load must cost less than what it measures. */
export type NextRequest = () => string;

/** One connection that is kept, one request at a time. Any answer that is no success is an error. */
export class Caller {
  readonly #socket: Socket;
  #received: Buffer[] = [];
  #settle: { resolve(body: string): void; reject(error: Error): void } | undefined;

  constructor(port: number) {
    this.#socket = connect({ host: '127.0.0.1', port, noDelay: true });
    this.#socket.on('data', (bytes: Buffer) => {
      this.#received.push(bytes);
      this.#settleWhenWhole();
    });
    const fail = (error?: Error): void => this.#settle?.reject(error ?? new Error('The connection was closed.'));
    this.#socket.on('error', fail).on('close', () => fail());
  }

  /** The body of the answer. */
  call(request: string): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
      this.#socket.write(request);
    });
  }

  close(): void {
    this.#settle = undefined;
    this.#socket.destroy();
  }

  #settleWhenWhole(): void {
    const bytes = this.#received.length === 1 ? this.#received[0]! : Buffer.concat(this.#received);
    this.#received = [bytes];
    const bodyAt = bytes.indexOf('\r\n\r\n') + 4;
    if (bodyAt < 4) return;
    const head = bytes.toString('latin1', 0, bodyAt);
    const length = /\r\ncontent-length: (\d+)/i.exec(head)?.[1];
    const whole = length === undefined ? bytes.subarray(-5).equals(lastChunk) : bytes.length >= bodyAt + Number(length);
    if (!whole) return;
    this.#received = [];
    const settle = this.#settle;
    this.#settle = undefined;
    if (/^HTTP\/1.1 20[01] /.test(head)) settle?.resolve(bytes.toString('utf8', bodyAt));
    else settle?.reject(new Error(`Answered: ${bytes.toString('utf8')}`));
  }
}

const lastChunk = Buffer.from('0\r\n\r\n');

/** Requests per second of `inFlight` callers that each wait for their answer. */
export async function throughput(
  port: number,
  next: NextRequest,
  { inFlight, durationMs }: { readonly inFlight: number; readonly durationMs: number },
): Promise<number> {
  const callers = Array.from({ length: inFlight }, () => new Caller(port));
  let done = 0;
  const begun = performance.now();
  const until = begun + durationMs;
  try {
    await Promise.all(
      callers.map(async (caller) => {
        for (; performance.now() < until; done += 1) await caller.call(next());
      }),
    );
    return (done * 1_000) / (performance.now() - begun);
  } finally {
    for (const caller of callers) caller.close();
  }
}

/**
 * Milliseconds from the moment each request was due to its answer, at a fixed rate whatever the server does: one that is
 * held up makes all that fall due meanwhile late, as it does to users.
 */
export async function latencies(
  port: number,
  next: NextRequest,
  { perSecond, durationMs }: { readonly perSecond: number; readonly durationMs: number },
): Promise<number[]> {
  const idle: Caller[] = [];
  const all = new Set<Caller>();
  const samples: number[] = [];
  const running = new Set<Promise<void>>();
  const begun = performance.now();
  const send = async (dueAt: number): Promise<void> => {
    const caller = idle.pop() ?? new Caller(port);
    all.add(caller);
    await caller.call(next());
    samples.push(performance.now() - dueAt);
    idle.push(caller);
  };
  try {
    await new Promise<void>((resolve, reject) => {
      let sent = 0;
      const tick = (): void => {
        const now = performance.now() - begun;
        for (; sent * 1_000 <= Math.min(now, durationMs) * perSecond; sent += 1) {
          const one = send(begun + (sent * 1_000) / perSecond);
          running.add(one);
          one.then(() => running.delete(one), reject);
        }
        if (now < durationMs) setTimeout(tick, 1);
        else Promise.all(running).then(() => resolve(), reject);
      };
      tick();
    });
    return samples;
  } finally {
    for (const caller of all) caller.close();
  }
}
