import type { SessionLogChunk } from '@backend.ai/contract';
import { type Rpc, toAppError } from './rpc.ts';

export interface FollowLogsOptions {
  readonly tailLines?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** So many pieces may wait to be taken. */
const mostWaiting = 16;

interface Piece {
  readonly id: string;
  readonly data: SessionLogChunk;
}

/**
 * A subscription that pauses: event streams know no back-pressure, so it is ended when too much waits, and begun again
 * behind the last piece that was taken when nothing waits any more.
 */
export async function* followLogs(
  rpc: Rpc,
  session: string,
  { tailLines, signal }: FollowLogsOptions,
): AsyncGenerator<SessionLogChunk, void, undefined> {
  let lastEventId: string | undefined;
  for (;;) {
    const round = followRound(rpc, { session, tailLines, lastEventId }, signal);
    try {
      for (let next = await round.next(); ; next = await round.next()) {
        if (next.done) {
          if (next.value === 'ended') return;
          break;
        }
        lastEventId = next.value.id;
        yield next.value.data;
      }
    } finally {
      // Of a reader that takes no more.
      await round.return('ended');
    }
  }
}

async function* followRound(
  rpc: Rpc,
  input: {
    readonly session: string;
    readonly tailLines?: number | undefined;
    readonly lastEventId?: string | undefined;
  },
  signal: AbortSignal | undefined,
): AsyncGenerator<Piece, 'ended' | 'paused', undefined> {
  const waiting: Piece[] = [];
  let state: 'open' | 'ended' | 'paused' = 'open';
  let failure: unknown;
  let wake = (): void => {};
  const end = (how: 'ended' | 'paused', why?: unknown): void => {
    if (state !== 'open') return;
    state = how;
    failure = why;
    wake();
  };
  const subscription = rpc.session.followLogs.subscribe(input, {
    onData: (piece) => {
      if (state !== 'open') return;
      waiting.push(piece);
      if (waiting.length < mostWaiting) return wake();
      end('paused');
      subscription.unsubscribe();
    },
    onError: (error) => end('ended', error),
    onComplete: () => end('ended'),
  });
  const onAbort = (): void => end('ended');
  signal?.addEventListener('abort', onAbort, { once: true });
  if (signal?.aborted) onAbort();
  try {
    for (;;) {
      if (signal?.aborted) return 'ended';
      const piece = waiting.shift();
      if (piece) yield piece;
      else if (state !== 'open') break;
      else await new Promise<void>((resolve) => (wake = resolve));
    }
  } finally {
    signal?.removeEventListener('abort', onAbort);
    subscription.unsubscribe();
  }
  if (failure !== undefined) throw toAppError(failure);
  return state === 'paused' ? 'paused' : 'ended';
}
