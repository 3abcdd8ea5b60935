const numbers = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;

/**
 * Resolves with the first of these signals; a second one ends the process at once with 128 + n. A service that does
 * something else at SIGHUP leaves it out.
 */
export function firstSignal(
  signals: ReadonlyArray<keyof typeof numbers> = ['SIGINT', 'SIGTERM', 'SIGHUP'],
): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let seen = false;
    for (const signal of signals) {
      process.on(signal, () => {
        if (seen) process.exit(128 + numbers[signal]);
        seen = true;
        resolve(signal);
      });
    }
  });
}
