/**
 * A connection that carries text messages both ways, in order: a WebSocket or a pair of queues in one process.
 * Everything above it (authentication, frames, deadlines, back-pressure) is the same for both.
 */
export interface Duplex {
  /** For logs: the address of the other end. */
  readonly remote: string;
  /**
   * A value that only the two ends of this very channel can know, where the channel offers one (TLS), else empty.
   * Both ends sign it, so that nobody can stand between two channels and relay a proof.
   */
  readonly channelBinding: string;
  /** Bytes accepted by `send` that have not left this process. */
  readonly bufferedAmount: number;
  /** Never calls back in the same turn; ignored after the end. */
  send(text: string): void;
  /** Stops reading from the other end until `resume`; it will notice by its own `bufferedAmount`. */
  pause(): void;
  resume(): void;
  /** Says goodbye after what was sent; `onClose` follows at both ends. */
  close(reason: string): void;
  /** Cuts the line. */
  terminate(): void;
  /** Who listens. Set before the first turn ends; may be exchanged at any time. */
  handler: DuplexHandler;
  /** The largest number of bytes that may arrive until `liftInboundLimit`; more cuts the line. */
  limitInbound(bytes: number): void;
  liftInboundLimit(): void;
}

export interface DuplexHandler {
  onMessage(text: string): void;
  /** Once, and nothing after it. */
  onClose(reason: string): void;
  /** `bufferedAmount` went down. */
  onDrain(): void;
}

export const idleHandler: DuplexHandler = { onMessage() {}, onClose() {}, onDrain() {} };

/** The size of a text in bytes is only counted when it can matter. */
export function exceedsBytes(text: string, limit: number): boolean {
  if (text.length > limit) return true;
  return text.length * 3 > limit && Buffer.byteLength(text) > limit;
}
