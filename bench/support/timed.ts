/** How long it took, in milliseconds, and what came of it. */
export async function timed<T>(work: () => Promise<T>): Promise<[ms: number, answer: T]> {
  const begun = performance.now();
  const answer = await work();
  return [performance.now() - begun, answer];
}
