import { amountToText, type ResourceSlots, slotTypeOf } from '@backend.ai/core';

/** Amounts of some slots in units of a `SlotTable`; all above zero. */
export interface DenseSlots {
  readonly columns: Int32Array;
  readonly amounts: Float64Array;
}

const thousand = 1000n;

/**
 * Slots as columns of numbers, for speed. A unit is a byte for slots in bytes and a thousandth for others, so that numbers
 * are exact up to 9 PB and 9 × 10¹² devices; fractions of bytes are rounded to the safe side.
 */
export class SlotTable {
  readonly names: readonly string[];
  readonly #columns: ReadonlyMap<string, number>;
  readonly #inBytes: readonly boolean[];

  constructor(names: Iterable<string>) {
    this.names = [...new Set(names)].sort();
    this.#columns = new Map(this.names.map((name, column) => [name, column]));
    this.#inBytes = this.names.map((name) => slotTypeOf(name) === 'bytes');
  }

  has(slots: ResourceSlots): boolean {
    return Object.keys(slots).every((name) => this.#columns.has(name));
  }

  column(name: string): number | undefined {
    return this.#columns.get(name);
  }

  /** Rounded up: what is asked for or held. */
  wanted(column: number, amount: bigint): number {
    if (!this.#inBytes[column]) return Number(amount);
    return Number(amount > 0n ? (amount + thousand - 1n) / thousand : amount / thousand);
  }

  /** Rounded down: what there is. */
  offered(column: number, amount: bigint): number {
    return Number(this.#inBytes[column] ? amount / thousand : amount);
  }

  amount(column: number, units: number): bigint {
    const whole = BigInt(Math.trunc(units));
    return this.#inBytes[column] ? whole * thousand : whole;
  }

  text(column: number, units: number): string {
    return Number.isFinite(units) ? amountToText(this.amount(column, units)) : '0';
  }

  /** Request of several kernels together. */
  dense(all: readonly ResourceSlots[]): DenseSlots {
    const sums = new Map<number, number>();
    for (const slots of all) {
      for (const [name, amount] of Object.entries(slots)) {
        const column = this.#columns.get(name);
        if (column !== undefined && amount > 0n)
          sums.set(column, (sums.get(column) ?? 0) + this.wanted(column, amount));
      }
    }
    const entries = [...sums].sort(([a], [b]) => a - b);
    return {
      columns: Int32Array.from(entries, ([column]) => column),
      amounts: Float64Array.from(entries, ([, amount]) => amount),
    };
  }
}
