/**
 * What a data connection of kind `terminal` carries: one byte of kind, four of length (big-endian), the payload. The other
 * end is the runner in a kernel, which belongs to its user: it is not trusted beyond the form.
 */

export type FrameToTerminal =
  | { readonly kind: 'input'; readonly data: Uint8Array }
  | { readonly kind: 'size'; readonly rows: number; readonly cols: number }
  /** Ends the shell and begins with another one. */
  | { readonly kind: 'restart' };

export type FrameFromTerminal =
  | { readonly kind: 'output'; readonly data: Buffer }
  /** The shell has ended, and the connection ends, too. */
  | { readonly kind: 'end'; readonly exitCode: number };

export const terminalFrameBytes = 1 << 20;
const headBytes = 5;

export function encodeTerminalFrame(frame: FrameToTerminal): Buffer {
  switch (frame.kind) {
    case 'input':
      return encode(0, frame.data);
    case 'size': {
      const size = Buffer.alloc(4);
      size.writeUInt16BE(frame.rows, 0);
      size.writeUInt16BE(frame.cols, 2);
      return encode(1, size);
    }
    case 'restart':
      return encode(2, Buffer.alloc(0));
  }
}

function encode(kind: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(headBytes);
  head.writeUInt8(kind, 0);
  head.writeUInt32BE(payload.length, 1);
  return Buffer.concat([head, payload]);
}

/** Cuts a stream into frames. Kinds that are not known are skipped: a later version may send them. */
export class TerminalFrames {
  #received: Buffer = Buffer.alloc(0);

  /** The frames that `chunk` completes, or undefined once one is too long. */
  push(chunk: Buffer): FrameFromTerminal[] | undefined {
    this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk]);
    const frames: FrameFromTerminal[] = [];
    while (this.#received.length >= headBytes) {
      const length = this.#received.readUInt32BE(1);
      if (length > terminalFrameBytes) return undefined;
      if (this.#received.length < headBytes + length) break;
      const kind = this.#received.readUInt8(0);
      const data = this.#received.subarray(headBytes, headBytes + length);
      this.#received = this.#received.subarray(headBytes + length);
      if (kind === 0) frames.push({ kind: 'output', data });
      else if (kind === 1 && length === 4) frames.push({ kind: 'end', exitCode: data.readUInt32BE(0) & 0xff });
    }
    return frames;
  }
}
