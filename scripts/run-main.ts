import { AppError } from '@backend.ai/core';

/**
 * The end of a script: errors become one sentence with a next step, and exit code 1. Timers of services do not keep a
 * process alive; a script that waits for one must not end silently in the middle, as if all were done.
 */
export async function runMain(work: () => Promise<void>): Promise<void> {
  const alive = setInterval(() => {}, 2 ** 30);
  try {
    await work();
  } catch (thrown) {
    const error = AppError.from(thrown);
    const unexpected = error.code === 'internal' && error.cause !== undefined;
    console.error(`Error: ${unexpected ? String((error.cause as Error).message ?? error.cause) : error.message}`);
    if (!unexpected) console.error(`  ${error.hint}`);
    process.exitCode = 1;
  } finally {
    clearInterval(alive);
  }
}
