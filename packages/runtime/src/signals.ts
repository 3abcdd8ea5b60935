/** Resolves with the first of SIGINT, SIGTERM and SIGHUP; a second one ends the process at once with 128 + n. */
export function firstSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let seen = false;
    for (const [signal, number] of [
      ['SIGINT', 2],
      ['SIGTERM', 15],
      ['SIGHUP', 1],
    ] as const) {
      process.on(signal, () => {
        if (seen) process.exit(128 + number);
        seen = true;
        resolve(signal);
      });
    }
  });
}
