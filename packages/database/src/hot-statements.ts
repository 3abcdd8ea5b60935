const maxPrepared = 256;
const maxRemembered = 1_024;

/**
 * Decides which statements are worth preparing: those that come back with the same text. A prepared
 * statement takes one exchange instead of two, but lives as long as its connection, so their number is bounded
 * (`IN` lists have a new text for every length).
 */
export class HotStatements {
  readonly #seen = new Set<string>();
  readonly #prepared = new Set<string>();

  shouldPrepare(text: string): boolean {
    if (this.#prepared.has(text)) return true;
    if (this.#seen.delete(text) && this.#prepared.size < maxPrepared) {
      this.#prepared.add(text);
      return true;
    }
    if (this.#seen.size >= maxRemembered) this.#seen.clear();
    this.#seen.add(text);
    return false;
  }
}
