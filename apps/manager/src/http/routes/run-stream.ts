import { executeInputSchema, type RunResult } from '@backend.ai/contract';
import { AppError, hasCode, newId } from '@backend.ai/core';
import type { WebSocket } from 'ws';
import { z } from 'zod';
import type { RequestEdge } from '../request-edge.ts';
import type { RouteContext } from '../server.ts';
import { closeWebSocket, maxMessageBytes } from '../web-sockets.ts';
import { batchOptionsSchema, kernelGone, runAnswer } from './session-shapes.ts';

/** Output is collected for so long before it is sent. */
const flushMs = 200;
/** Nothing happens for so long: the client is told that it goes on. */
const holdMs = 10_000;
/** The first message has to come within this time. */
const firstMessageMs = 30_000;

const firstMessageSchema = z.object({
  mode: z.enum(['query', 'batch']),
  code: z.string().nullish(),
  options: batchOptionsSchema.nullish(),
});

/**
 * One run over a WebSocket: the client says what to run, answers questions with plain texts, and gets every step as it
 * comes. Its going away interrupts the run.
 */
export async function serveRun(
  socket: WebSocket,
  session: string,
  edge: RequestEdge,
  { services, clock, logger }: RouteContext,
): Promise<void> {
  const setTimer = (ms: number, callback: () => void): (() => void) => clock.setTimer(ms, callback);
  const texts = new Texts(socket, () => closeWebSocket(socket, 1008, 'More was said than was asked for.', setTimer));
  const say = (message: object): void => {
    if (socket.readyState === socket.OPEN) socket.send(JSON.stringify(message));
  };
  const runId = newId();
  let result: RunResult | undefined;
  const isOver = (): boolean => result?.status === 'finished' || result?.status === 'exec-timeout';
  let begun = false;
  const interrupt = async (): Promise<void> => {
    // The signal of this request is spent: its caller has gone away.
    const { requestId, actor, headers } = edge.callContext;
    try {
      await services.session.interrupt({ session, runId }, { requestId, actor, headers, signal: undefined });
    } catch (error) {
      logger.debug('run could not be interrupted', { run_id: runId, error });
    }
  };
  const step = async (input: object): Promise<void> => {
    const parsed = executeInputSchema.parse({ flushMs, holdMs, runId, cursor: result?.cursor ?? 0, ...input });
    result = await services.session.execute({ ...parsed, session }, edge.callContext);
    const { runId: _, ...answer } = runAnswer(result) as { runId: string };
    say(answer);
  };
  try {
    const cancel = setTimer(firstMessageMs, () => texts.close());
    const first = parseFirst(await texts.next().finally(cancel));
    begun = true;
    await step(
      first.mode === 'query'
        ? { mode: 'query', code: first.code ?? '' }
        : { mode: 'batch', options: first.options ?? {} },
    );
    while (!isOver()) {
      if (result?.status !== 'waiting-input') await step({ mode: 'continue' });
      else await step({ mode: 'input', code: await texts.next() });
    }
    closeWebSocket(socket, 1000, '', setTimer);
  } catch (error) {
    if (socket.readyState !== socket.OPEN) {
      if (begun && !isOver() && edge.aborted?.code !== 'shutting-down') await interrupt();
      return;
    }
    const known = AppError.from(error);
    if (result && hasCode(known, 'kernel-not-found', 'kernel-lost', 'session-not-running')) {
      const { runId: _, ...gone } = kernelGone(runId);
      say(gone);
      closeWebSocket(socket, 1000, '', setTimer);
    } else {
      say({ status: 'error', msg: known.message });
      closeWebSocket(socket, 1011, known.message, setTimer);
    }
  }
}

function parseFirst(text: string): z.infer<typeof firstMessageSchema> {
  try {
    return firstMessageSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw new AppError('invalid-input', 'The first message is no request to execute.', { cause });
  }
}

/** Messages in the order of their arrival, also those that come before anybody asks: together as large as one may be. */
class Texts {
  readonly #waiting: string[] = [];
  #length = 0;
  #wake: () => void = () => {};
  isClosed = false;

  constructor(socket: WebSocket, onTooMany: () => void) {
    socket.on('message', (data) => {
      if (socket.readyState !== socket.OPEN) return;
      const text = String(data);
      this.#length += text.length;
      if (this.#length > maxMessageBytes) return onTooMany();
      this.#waiting.push(text);
      this.#wake();
    });
    socket.once('close', () => this.close());
  }

  close(): void {
    this.isClosed = true;
    this.#wake();
  }

  /** @throws AppError `cancelled` when nothing will come any more */
  async next(): Promise<string> {
    for (;;) {
      const text = this.#waiting.shift();
      if (text !== undefined) {
        this.#length -= text.length;
        return text;
      }
      if (this.isClosed) throw new AppError('cancelled', 'The caller went away.');
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}
