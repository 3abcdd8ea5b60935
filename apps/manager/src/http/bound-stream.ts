import { Readable } from 'node:stream';
import { AppError, type Clock } from '@backend.ai/core';
import type { RequestEdge } from './request-edge.ts';

export interface BoundStreamOptions {
  /** Gives up when the source stays silent for so long while somebody wants data. */
  readonly idle?: { readonly ms: number; readonly clock: Clock };
  /** The source is a request body: when nobody wants it any more it is drained, so that the answer can be sent. */
  readonly drain?: boolean;
}

/**
 * The same bytes with the same back-pressure, but whoever reads or writes them works under the request's id: sockets
 * call their listeners outside any request.
 */
export function boundStream(edge: RequestEdge, source: Readable, options: BoundStreamOptions = {}): Readable {
  let cancelIdle: (() => void) | undefined;
  let ended = false;
  const awaitData = (): void => {
    const { idle } = options;
    if (!idle) return;
    cancelIdle?.();
    cancelIdle = idle.clock.setTimer(idle.ms, () =>
      edge.run(() => bound.destroy(new AppError('deadline-exceeded', 'The stream stalled.'))),
    );
  };
  const onData = (chunk: unknown): void => {
    cancelIdle?.();
    edge.run(() => {
      if (bound.push(chunk)) awaitData();
      else source.pause();
    });
  };
  const onEnd = (): void => {
    ended = true;
    cancelIdle?.();
    edge.run(() => bound.push(null));
  };
  const onError = (error: Error): void => {
    edge.run(() => bound.destroy(error));
  };
  const onClose = (): void => {
    if (!ended && !bound.destroyed)
      edge.run(() => bound.destroy(new AppError('connection-lost', 'The stream ended too early.')));
  };
  let begun = false;
  const bound: Readable = new Readable({
    read: () =>
      edge.run(() => {
        awaitData();
        if (!begun) {
          begun = true;
          source.on('data', onData);
        }
        source.resume();
      }),
    destroy: (error, callback) =>
      edge.run(() => {
        cancelIdle?.();
        source.off('data', onData);
        if (options.drain) source.resume();
        else source.destroy();
        callback(error);
      }),
  });
  source.on('end', onEnd);
  source.on('error', onError);
  source.on('close', onClose);
  return bound;
}
