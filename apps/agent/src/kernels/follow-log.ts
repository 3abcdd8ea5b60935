import { inflateRawSync } from 'node:zlib';
import { type KeptLog, keptConsoleBytes, type LogChunk } from '@backend.ai/contract';
import { type Clock, delay } from '@backend.ai/core';
import { type ConsoleLog, type LogRequest, readLog } from '../files/console-log.ts';
import type { KernelSupervisor } from './supervisor.ts';

export interface LogSource {
  readonly console: ConsoleLog;
  /** Nothing will be added. */
  readonly ended: boolean;
}

export interface LogFollowing {
  /** Asked each time: the kernel may end meanwhile. @throws AppError `kernel-not-found` */
  readonly source: () => LogSource;
  readonly request: LogRequest;
  readonly holdMs: number;
  readonly clock: Clock;
  readonly signal: AbortSignal | undefined;
}

/** How often it is looked whether something was written: the programs know nothing of those who read. */
const lookMs = 200;

/** What was written after the cursor; waits for it as long as it may. */
export async function followLog({ source, request, holdMs, clock, signal }: LogFollowing): Promise<LogChunk> {
  const until = clock.monotonic() + holdMs;
  for (;;) {
    const { console, ended } = source();
    const log = console.open();
    try {
      const chunk = readLog(log, request);
      const isRest = ended && chunk.text === '';
      const over = isRest || clock.monotonic() >= until || signal?.aborted;
      if (chunk.text !== '' || chunk.missed || over) return { ...chunk, ended: isRest };
    } finally {
      log.close();
    }
    await delay(clock, Math.min(lookMs, until - clock.monotonic()), signal);
  }
}

/** @throws AppError `kernel-not-found` */
export function sourceOf(supervisor: KernelSupervisor, kernelId: string): LogSource {
  const kept = supervisor.endedConsole(kernelId);
  if (kept) return { console: keptConsole(kept), ended: true };
  const { handle } = supervisor.get(kernelId);
  // Of one that is being started nothing is there yet.
  return { console: handle?.console ?? nothing, ended: false };
}

const nothing: ConsoleLog = { open: () => ({ parts: [], read: () => Buffer.alloc(0), close() {} }) };

/** @throws when it is larger than what is ever kept, or no such thing at all */
export function keptConsole({ parts, packed }: KeptLog): ConsoleLog {
  return {
    open() {
      const data = inflateRawSync(Buffer.from(packed, 'base64'), { maxOutputLength: keptConsoleBytes });
      return {
        parts,
        read(part, offset, length) {
          let begin = 0;
          for (const each of parts) {
            if (each.file === part.file) break;
            begin += each.bytes;
          }
          return data.subarray(begin + offset - part.from, begin + offset - part.from + length);
        },
        close() {},
      };
    },
  };
}
