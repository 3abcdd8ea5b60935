import type { WarmSlotSpec } from '@backend.ai/contract';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { compareSlots, type ToldSlots } from './told-slots.ts';

const specOf = (slotId: string): WarmSlotSpec => ({ slotId, image: 'i', slots: {} });

/** Database, leader and agent with everything that is under way between them; only what the agent decides is the real one. */
class Model {
  readonly #rows = new Map<string, 'starting' | 'ready'>();
  readonly #preparing = new Set<string>();
  #read: string[] | undefined;
  readonly #tellings: ToldSlots[] = [];
  readonly #orders: string[] = [];
  readonly #slots = new Map<string, 'starting' | 'ready'>();
  readonly #kernels = new Set<string>();
  #made = 0;

  readonly steps: ReadonlyArray<(nth: number) => void> = [
    () => this.#rows.set(`w${this.#made++}`, 'starting'),
    (nth) => this.#rows.delete(pick([...this.#rows.keys()], nth) ?? ''),
    (nth) => this.#claim(nth),
    () => {
      this.#read = [...this.#rows.keys()];
    },
    () => this.#tell(),
    () => this.#hear(),
    (nth) => this.#order(nth),
    (nth) => this.#becomeReady(nth),
    (nth) => this.#end(nth),
  ];

  /** Two words at most: the first may have been read before the last change. */
  settle(): void {
    while (this.#orders.length > 0) this.#order(0);
    for (let round = 0; round < 2; round++) {
      this.#read = [...this.#rows.keys()];
      this.#tell();
      while (this.#tellings.length > 0) this.#hear();
    }
    expect([...this.#slots.keys()].sort()).toEqual([...this.#rows.keys()].sort());
  }

  #claim(nth: number): void {
    const id = pick(
      [...this.#rows].flatMap(([id, state]) => (state === 'ready' ? [id] : [])),
      nth,
    );
    if (id === undefined) return;
    this.#rows.delete(id);
    this.#preparing.add(id);
    this.#orders.push(id);
  }

  #tell(): void {
    if (!this.#read) return;
    this.#tellings.push({ wished: this.#read.map(specOf), claimed: [...this.#preparing] });
    this.#read = undefined;
  }

  #hear(): void {
    const told = this.#tellings.shift();
    if (!told) return;
    const isTaken = (id: string): boolean => this.#kernels.has(id);
    const { drop, begin } = compareSlots(told, { slots: [...this.#slots.keys()], isTaken });
    for (const id of drop) this.#slots.delete(id);
    for (const { slotId } of begin) this.#slots.set(slotId, 'starting');
  }

  #becomeReady(nth: number): void {
    const id = pick([...this.#slots.keys()], nth);
    if (id === undefined) return;
    this.#slots.set(id, 'ready');
    if (this.#rows.has(id)) this.#rows.set(id, 'ready');
  }

  #order(nth: number): void {
    const id = pick(this.#orders, nth);
    if (id === undefined) return;
    this.#orders.splice(this.#orders.indexOf(id), 1);
    expect(this.#slots.get(id)).toBe('ready');
    this.#slots.delete(id);
    this.#kernels.add(id);
    this.#preparing.delete(id);
  }

  /** Before or after its order came; the agent remembers what has ended. */
  #end(nth: number): void {
    const id = pick([...this.#preparing, ...this.#kernels], nth);
    if (id === undefined) return;
    if (this.#preparing.delete(id)) this.#orders.splice(this.#orders.indexOf(id), 1);
    this.#slots.delete(id);
    this.#kernels.add(id);
  }
}

function pick<T>(of: readonly T[], nth: number): T | undefined {
  return of[nth % of.length];
}

it('whatever is told while sessions claim slots, an order finds the slot that it claims, and no slot stays for nobody', () => {
  const step = fc.record({ kind: fc.nat(8), nth: fc.nat(5) });
  fc.assert(
    fc.property(fc.array(step, { minLength: 10, maxLength: 120 }), (steps) => {
      const model = new Model();
      for (const { kind, nth } of steps) model.steps[kind]?.(nth);
      model.settle();
    }),
    { numRuns: 2_000 },
  );
});

it('a slot that is wished and claimed is neither begun anew nor given up', () => {
  const told = { wished: [specOf('a'), specOf('b')], claimed: ['b', 'c'] };
  expect(compareSlots(told, { slots: ['c', 'd'], isTaken: () => false })).toEqual({
    drop: ['d'],
    begin: [specOf('a')],
  });
});
