import type { CliContext } from '@backend.ai/cli-kit';
import type { OnProgress } from '@backend.ai/client';
import { formatBinarySize } from '@backend.ai/core';

export interface Progress {
  readonly onProgress: OnProgress | undefined;
  stop(): void;
}

/** Files below this size are there before a bar could be read. */
const worthShowing = 1024 * 1024;

/** A bar on stderr, at a terminal only. @param unit Of what there is so much; small transfers are not worth a bar. */
export async function showProgress(
  context: CliContext,
  name: string,
  unit: 'bytes' | 'count' = 'bytes',
): Promise<Progress> {
  const { stderr } = context;
  if (!('isTTY' in stderr) || !stderr.isTTY) return { onProgress: undefined, stop: () => {} };
  const { default: cliProgress } = await import('cli-progress');
  const bar = new cliProgress.SingleBar({
    format: '{name} [{bar}] {percentage}% {done} / {all}',
    stream: stderr as NodeJS.WriteStream,
    hideCursor: true,
    clearOnComplete: true,
    etaBuffer: 10,
  });
  let started = false;
  return {
    onProgress(done, total) {
      const all = total ?? done;
      if (unit === 'bytes' && all < worthShowing) return;
      const text = (amount: number): string => (unit === 'bytes' ? formatBinarySize(amount) : String(amount));
      const payload = { name, done: text(done), all: text(all) };
      if (!started) bar.start(all, done, payload);
      else {
        bar.setTotal(all);
        bar.update(done, payload);
      }
      started = true;
    },
    stop() {
      if (started) bar.stop();
    },
  };
}
