import { deflateRawSync } from 'node:zlib';
import { type KeptLog, keptConsoleBytes, keptConsoleText } from '@backend.ai/contract';
import type { ConsoleLog, LogPart } from './console-log.ts';

/**
 * The end of what a kernel wrote, packed: what is kept when its files go. As much as fits, by halves: what packs
 * badly is kept shorter.
 */
export function keepLog(console: ConsoleLog, maxBytes: number = keptConsoleBytes): KeptLog | undefined {
  const log = console.open();
  try {
    for (let budget = maxBytes; budget > 0; budget = Math.floor(budget / 2)) {
      const parts = newest(log.parts, budget);
      const data = Buffer.concat(parts.map((part) => log.read(part, part.from, part.bytes)));
      if (data.length === 0) return undefined;
      const packed = deflateRawSync(data).toString('base64');
      if (packed.length <= keptConsoleText) return { parts, packed };
    }
    return undefined;
  } finally {
    log.close();
  }
}

function newest(parts: readonly LogPart[], budget: number): LogPart[] {
  const kept: LogPart[] = [];
  let left = budget;
  for (const { file, from, bytes } of [...parts].reverse()) {
    const taken = Math.min(left, bytes);
    if (taken > 0) kept.unshift({ file, from: from + bytes - taken, bytes: taken });
    left -= taken;
  }
  return kept;
}
