import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { Clock } from '@backend.ai/core';
import { WebSocket } from 'ws';
import { type Duplex, type DuplexHandler, idleHandler } from './duplex.ts';

/** Close codes of RFC 6455 §7.4.1. */
const goingAway = 1001;

/**
 * An open WebSocket as a duplex. It notices a dead line by itself: every `pingMs` it pings, and a line on which
 * nothing moved between two pings is cut, so that a half-open connection lives at most twice `pingMs`.
 */
export function webSocketDuplex(
  socket: WebSocket,
  raw: Socket,
  options: { readonly remote: string; readonly pingMs: number; readonly clock: Clock },
): Duplex {
  let handler: DuplexHandler = idleHandler;
  /** What came before anybody listened: a message or the end may stand in the first packet. */
  const early: Array<(listener: DuplexHandler) => void> = [];
  const tell = (event: (listener: DuplexHandler) => void): void => {
    if (handler !== idleHandler) event(handler);
    else if (early.length < 8) early.push(event);
    else socket.terminate();
  };
  let alive = true;
  let reason = 'the other end vanished';
  let closed = false;
  let paused = false;
  let budget = Number.POSITIVE_INFINITY;

  const countInbound = (chunk: Buffer): void => {
    budget -= chunk.length;
    if (budget < 0) {
      reason = 'too much was sent before the proof';
      socket.terminate();
    }
  };

  socket.on('message', (data: Buffer, isBinary) => {
    alive = true;
    if (isBinary) {
      reason = 'a binary message arrived';
      socket.terminate();
    } else if (!closed) {
      const text = data.toString();
      tell((listener) => listener.onMessage(text));
    }
  });
  const stillThere = (): void => {
    alive = true;
  };
  socket.on('pong', stillThere);
  socket.on('ping', stillThere);
  socket.on('error', (error) => {
    reason = error.message;
  });
  socket.on('close', (code, text) => {
    closed = true;
    cancelTick();
    const said = text.toString();
    const why = said !== '' ? said : code === 1006 ? reason : `${reason} (code ${code})`;
    tell((listener) => listener.onClose(why));
  });

  const onWritten = (): void => {
    // While we do not read we cannot hear answers; that our bytes still leave shows that the other end reads.
    if (paused) alive = true;
    if (!closed) handler.onDrain();
  };

  const cut = (): void => {
    if (alive || closed) return;
    reason = `nothing was heard for ${options.pingMs} ms`;
    socket.terminate();
  };
  const tick = (): void => {
    // After a long pause of this process the answers wait unread: look at them before judging.
    if (!alive) setImmediate(cut);
    alive = false;
    if (socket.readyState === WebSocket.OPEN) socket.ping();
    cancelTick = options.clock.setTimer(options.pingMs, tick);
  };
  let cancelTick = options.clock.setTimer(options.pingMs, tick);

  return {
    remote: options.remote,
    channelBinding: channelBindingOf(raw),
    get bufferedAmount() {
      return socket.bufferedAmount;
    },
    send(text) {
      if (socket.readyState === WebSocket.OPEN) socket.send(text, onWritten);
    },
    pause() {
      paused = true;
      socket.pause();
    },
    resume() {
      paused = false;
      alive = true;
      socket.resume();
    },
    close(text) {
      reason = text;
      socket.resume();
      socket.close(goingAway, text.slice(0, 120));
      // A peer that does not answer the goodbye must not keep the socket.
      const cancel = options.clock.setTimer(1_000, () => socket.terminate());
      socket.once('close', cancel);
    },
    terminate: () => socket.terminate(),
    get handler() {
      return handler;
    },
    set handler(next) {
      handler = next;
      for (const event of early.splice(0)) queueMicrotask(() => event(handler));
    },
    limitInbound(bytes) {
      budget = bytes;
      raw.on('data', countInbound);
    },
    liftInboundLimit() {
      raw.off('data', countInbound);
    },
  };
}

/** RFC 9266 in spirit: key material of this TLS session that an intermediary with two sessions cannot have in both. */
function channelBindingOf(raw: Socket): string {
  if (!(raw instanceof TLSSocket)) return '';
  return raw.exportKeyingMaterial(32, 'EXPORTER-backend.ai-rpc', Buffer.alloc(0)).toString('base64url');
}
