import { addSlots, amountFromText, fits, parseResourceSlots, type ResourceSlots } from '@backend.ai/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { affinityTiers } from './affinity.ts';
import { type AllocationRules, allocate, heldBy, slotsOf } from './allocate.ts';
import { AllocationLedger } from './allocation-ledger.ts';
import { type Allocation, capacityOf, type Division, type Inventory, plainPool, type SlotPool } from './inventory.ts';
import { flatTopology, type NumaTopology } from './numa.ts';
import { spread, takeFraction, takeUnfragmented } from './take-units.ts';

const evenly: AllocationRules = { strategy: 'evenly', affinity: 'interleaved' };
const whole: Division = { kind: 'discrete', unit: 1000n, divisible: false };
const tenths: Division = { kind: 'fraction', quantum: 100n };
const twoNodes: NumaTopology = {
  nodes: [0, 1],
  nodeOfCpu: new Map(),
  distance: (from, to) => (from === to ? 10 : 20),
};

function pool(
  slot: string,
  division: Division,
  capacities: readonly number[],
  nodes: readonly number[] = [],
): SlotPool {
  const devices = capacities.map((capacity, index) => ({
    id: `${slot.split('.')[0]}${index}`,
    capacity: BigInt(Math.round(capacity * 1000)),
    numaNode: nodes[index] ?? null,
  }));
  return { slot, family: slot.split('.')[0] ?? '', type: 'count', division, devices };
}

function cores(nodes: readonly number[]): SlotPool {
  const devices = nodes.map((numaNode, cpu) => ({ id: String(cpu), capacity: 1000n, numaNode }));
  return {
    slot: 'cpu',
    family: 'cpu',
    type: 'count',
    division: { kind: 'discrete', unit: 1000n, divisible: true },
    devices,
  };
}

function inventory(pools: readonly SlotPool[], rest: Partial<Inventory> = {}): Inventory {
  return { pools, exclusive: [], unified: {}, topology: flatTopology, realCpus: true, ...rest };
}

function give(
  of: Inventory,
  slots: Record<string, string | number>,
  { allowFragmentation = true, held = [] as Allocation[], rules = evenly } = {},
): Allocation {
  return allocate(of, heldBy(held), { slots: parseResourceSlots(slots), allowFragmentation }, rules);
}

const rooms = (...free: number[]) =>
  free.map((each, index) => ({ id: String(index), free: BigInt(each), numaNode: null }));
const sorted = (values: Iterable<bigint>): bigint[] => [...values].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
const total = (values: Iterable<bigint>): bigint => [...values].reduce((sum, each) => sum + each, 0n);

/** One unit after the other, each to the device that has been given least of those that have room. */
function spreadOneByOne(free: readonly number[], units: number): bigint[] {
  const taken = free.map(() => 0);
  for (let left = units; left > 0; left--) {
    const open = free.flatMap((most, index) => (taken[index]! < most ? [index] : []));
    const least = open.reduce((best, index) => (taken[index]! < taken[best]! ? index : best));
    taken[least]! += 1;
  }
  return taken.map(BigInt).filter((each) => each > 0n);
}

const someFree = fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 1, maxLength: 8 });

describe('units of devices', () => {
  it('are spread as evenly as one by one would do it', () => {
    fc.assert(
      fc.property(someFree, fc.integer({ min: 1, max: 60 }), (free, wanted) => {
        const units = Math.min(
          wanted,
          free.reduce((sum, each) => sum + each, 0),
        );
        expect(sorted(spread(rooms(...free), BigInt(units)).values())).toEqual(sorted(spreadOneByOne(free, units)));
      }),
    );
  });

  it('come from one device where shares fit into one, the tightest', () => {
    fc.assert(
      fc.property(someFree, fc.integer({ min: 1, max: 12 }), (free, wanted) => {
        const holders = free.filter((each) => each >= wanted);
        fc.pre(holders.length > 0);
        const [[id, share]] = [...(takeFraction([rooms(...free)], BigInt(wanted), 'evenly') ?? [])] as [
          [string, bigint],
        ];
        expect([share, free[Number(id)]]).toEqual([BigInt(wanted), Math.min(...holders)]);
      }),
    );
  });

  it('of shares prefer equal parts, then fewer devices, then whole rests', () => {
    const shares = (free: number[], wanted: number) => [
      ...(takeFraction([rooms(...free)], BigInt(wanted), 'evenly') ?? []),
    ];
    // 5 + 5 of 5 and 5 rather than 6 + 4 or three devices.
    expect(shares([6, 5, 5, 4], 10)).toEqual([
      ['1', 5n],
      ['2', 5n],
    ]);
    // Equal parts of three rather than 10 + 4.
    expect(shares([10, 6, 6], 14).map(([, share]) => share)).toEqual([5n, 5n, 4n]);
  });

  it('are not scattered where that is not allowed, and still come from several devices where one is too small', () => {
    const ten = (count: number) => Array.from({ length: count }, () => 10n);
    const of = (free: number[], wanted: number) => takeUnfragmented([rooms(...free)], ten(free.length), BigInt(wanted));
    expect(of([5, 5], 8)).toBeNull();
    expect(of([10, 10, 3], 20)).toEqual(
      new Map([
        ['0', 10n],
        ['1', 10n],
      ]),
    );
    expect(of([9, 8, 10], 15)).toEqual(
      new Map([
        ['1', 8n],
        ['0', 7n],
      ]),
    );
    expect(of([10, 5], 15)).toBeNull();
    expect(of([10, 10], 30)).toBeNull();
  });

  it('are refused as scattered exactly when no choice of the fewest devices has room for its parts', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 10 }), { minLength: 1, maxLength: 6 }),
        fc.integer({ min: 1, max: 60 }),
        (free, wanted) => {
          const devices = Math.ceil(wanted / 10);
          const [part, more] = [Math.floor(wanted / devices), wanted % devices];
          const possible =
            devices <= free.length &&
            free.filter((each) => each > part).length >= more &&
            free.filter((each) => each >= part).length >= devices;
          const taken = takeUnfragmented(
            [rooms(...free)],
            free.map(() => 10n),
            BigInt(wanted),
          );
          expect(taken !== null).toBe(possible);
          if (taken) expect([total(taken.values()), taken.size]).toEqual([BigInt(wanted), devices]);
        },
      ),
    );
  });
});

describe('the order of devices', () => {
  const at = (id: string, free: number, numaNode: number | null) => ({ id, free: BigInt(free), numaNode });
  const ids = (tiers: ReadonlyArray<ReadonlyArray<{ id: string }>>) => tiers.map((tier) => tier.map(({ id }) => id));

  it('takes from nodes in turn, or uses up the one with most room first', () => {
    const devices = [at('a', 1, 0), at('b', 1, 1), at('c', 1, 1)];
    expect(ids(affinityTiers(devices, twoNodes, 'interleaved', []))).toEqual([['b', 'a', 'c']]);
    expect(ids(affinityTiers(devices, twoNodes, 'prefer-single-node', []))).toEqual([['b', 'c'], ['a']]);
  });

  it('begins with the nodes on which the kernel is already, however little is left there', () => {
    const devices = [at('a', 1, 0), at('b', 9, 1), at('c', 9, null)];
    for (const policy of ['interleaved', 'prefer-single-node'] as const) {
      expect(ids(affinityTiers(devices, twoNodes, policy, [0]))).toEqual([['a'], ['b'], ['c']]);
    }
  });
});

describe('the allocation of a kernel', () => {
  const machine = inventory(
    [cores([0, 0, 1, 1]), plainPool('mem', 'bytes', 64_000n), pool('cuda.shares', tenths, [1, 1], [0, 1])],
    {
      topology: twoNodes,
      exclusive: [['cuda.device', 'cuda.device:*-mig', 'cuda.shares']],
      unified: { 'net.device': ['mlx0'] },
    },
  );

  it('puts processors next to the accelerator that it gets', () => {
    const held = [give(machine, { 'cuda.shares': '0.5' })];
    const { slots, cpus } = give(machine, { cpu: 2, mem: 32, 'cuda.shares': 1 }, { held });
    expect(slots).toEqual({ 'cuda.shares': { cuda1: '1' }, cpu: { 2: '1', 3: '1' }, mem: { root: '32' } });
    expect(cpus).toEqual([2, 3]);
  });

  it('goes to other nodes for processors that are lacking there', () => {
    const held = [give(machine, { 'cuda.shares': 1 }), give(machine, { cpu: 1 })];
    const { slots } = give(machine, { cpu: 3, 'cuda.shares': 1 }, { held });
    expect(Object.keys(slots.cpu ?? {})).toContain('3');
    expect(total(Object.values(slots.cpu ?? {}).map(amountFromText))).toBe(3000n);
  });

  it('has what every kernel of the machine has', () => {
    expect(give(machine, { cpu: 1 }).unified).toEqual({ 'net.device': ['mlx0'] });
  });

  it('is refused for slots that exclude one another', () => {
    const both = inventory([pool('cuda.device', whole, [1]), pool('cuda.device:1g-mig', whole, [1])], {
      exclusive: machine.exclusive,
    });
    expect(() => give(both, { 'cuda.device': 1, 'cuda.device:1g-mig': 1 })).toThrow(
      expect.objectContaining({
        code: 'invalid-input',
        message: 'A kernel can have only one of cuda.device, cuda.device:1g-mig.',
      }),
    );
  });

  it('has one device of a unique slot, no more', () => {
    const unique = inventory([{ ...pool('mig', whole, [1, 1]), type: 'unique' }]);
    expect(give(unique, { mig: 1 }).slots).toEqual({ mig: { mig0: '1' } });
    expect(() => give(unique, { mig: 2 })).toThrow(expect.objectContaining({ code: 'invalid-input' }));
  });

  it('gives shares rounded down to the quantum, and refuses less than one', () => {
    expect(give(machine, { 'cuda.shares': '0.25' }).slots).toEqual({ 'cuda.shares': { cuda0: '0.2' } });
    expect(() => give(machine, { 'cuda.shares': '0.05' })).toThrow('not a multiple of its quantum');
  });

  it('may be refused shares that are free, but scattered', () => {
    const held = [give(machine, { 'cuda.shares': '0.6' }), give(machine, { 'cuda.shares': '0.6' })];
    expect(held.map(({ slots }) => Object.keys(slots['cuda.shares'] ?? {}))).toEqual([['cuda0'], ['cuda0']]);
    const spreadOut = [held[0]!, { ...held[1]!, slots: { 'cuda.shares': { cuda1: '0.6' } } }];
    expect(give(machine, { 'cuda.shares': '0.8' }, { held: spreadOut }).slots).toEqual({
      'cuda.shares': { cuda0: '0.4', cuda1: '0.4' },
    });
    expect(() => give(machine, { 'cuda.shares': '0.8' }, { held: spreadOut, allowFragmentation: false })).toThrow(
      'scattered',
    );
    expect(give(machine, { 'cuda.shares': 2 }, { allowFragmentation: false }).slots).toEqual({
      'cuda.shares': { cuda0: '1', cuda1: '1' },
    });
  });

  it('shares a processor among kernels that want less than one, and leaves whole ones whole', () => {
    const held = [give(machine, { cpu: '0.5' })];
    held.push(give(machine, { cpu: '0.5' }, { held }), give(machine, { cpu: 3 }, { held }));
    expect(held.map(({ cpus }) => cpus)).toEqual([[0], [0], [1, 2, 3]]);
    const halves = ['0', '1', '2', '3'].map((cpu) => ({
      slots: { cpu: { [cpu]: '0.5' } },
      unified: {},
      cpus: [Number(cpu)],
    }));
    expect(give(machine, { cpu: 2 }, { held: halves }).cpus).toEqual([0, 1, 2, 3]);
  });
});

describe('the books of devices', () => {
  const machine = inventory(
    [
      cores([0, 0, 1, 1]),
      plainPool('mem', 'bytes', 8_000n),
      pool('cuda.shares', tenths, [1, 0.5, 1], [0, 0, 1]),
      pool('tpu.device', whole, [1, 2], [1, 0]),
    ],
    { topology: twoNodes },
  );
  const capacity = capacityOf(machine);
  const request = fc.record({
    holder: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f'),
    take: fc.boolean(),
    allowFragmentation: fc.boolean(),
    slots: fc.record({
      cpu: fc.integer({ min: 0, max: 3000 }),
      mem: fc.integer({ min: 0, max: 6 }).map((each) => each * 1000),
      'cuda.shares': fc.integer({ min: 0, max: 15 }).map((each) => each * 100),
      'tpu.device': fc.integer({ min: 0, max: 2 }).map((each) => each * 1000),
    }),
  });
  const rules = fc.record({
    strategy: fc.constantFrom('evenly' as const, 'fill' as const),
    affinity: fc.constantFrom('interleaved' as const, 'prefer-single-node' as const),
  });

  it('give what was asked, never more of a device than there is, change nothing when they refuse, and end empty', () => {
    fc.assert(
      fc.property(rules, fc.array(request, { maxLength: 40 }), (by, requests) => {
        const ledger = new AllocationLedger(machine, by);
        const holding = new Map<string, ResourceSlots>();
        for (const { holder, take, allowFragmentation, slots } of requests) {
          const wanted = Object.fromEntries(Object.entries(slots).map(([slot, amount]) => [slot, BigInt(amount)]));
          const before = ledger.heldDevices;
          if (!take) {
            ledger.release(holder);
            holding.delete(holder);
          } else if (!holding.has(holder)) {
            try {
              expect(addSlots(slotsOf(ledger.reserve(holder, { slots: wanted, allowFragmentation })), {})).toEqual(
                withoutZeros(wanted),
              );
              holding.set(holder, withoutZeros(wanted));
            } catch (error) {
              expect(error).toMatchObject({ code: 'insufficient-capacity' });
              expect(ledger.heldDevices).toEqual(before);
              // Without the rule against scattering only what is lacking is refused.
              if (allowFragmentation) expect(fits(addSlots(ledger.used, wanted), capacity)).toBe(false);
            }
          }
          for (const { slot, devices } of machine.pools) {
            for (const device of devices)
              expect(ledger.heldDevices.get(slot)?.get(device.id) ?? 0n).toBeLessThanOrEqual(device.capacity);
          }
          expect(ledger.used).toEqual([...holding.values()].reduce(addSlots, {}));
        }
        // As a restarted agent builds them.
        const again = new AllocationLedger(machine, by);
        for (const holder of holding.keys())
          again.hold(
            holder,
            JSON.parse(JSON.stringify(ledger.reserve(holder, { slots: {}, allowFragmentation: true }))),
          );
        expect(again.heldDevices).toEqual(ledger.heldDevices);
        for (const holder of 'abcdef') ledger.release(holder);
        expect(ledger.used).toEqual({});
      }),
    );
  });

  it('know of kernels whose devices are gone, or were never written down', () => {
    const ledger = new AllocationLedger(inventory([pool('cuda.device', whole, [1])]));
    ledger.hold('gone', { slots: { 'cuda.device': { cuda7: '1' } }, unified: {}, cpus: null });
    ledger.holdSomewhere('old', parseResourceSlots({ 'cuda.device': 1 }));
    ledger.holdSomewhere('older', parseResourceSlots({ 'cuda.device': 1 }));
    expect(ledger.used).toEqual(parseResourceSlots({ 'cuda.device': 3 }));
    expect(() =>
      ledger.reserve('new', { slots: parseResourceSlots({ 'cuda.device': 1 }), allowFragmentation: true }),
    ).toThrow('too little free');
  });
});

function withoutZeros(slots: ResourceSlots): ResourceSlots {
  return Object.fromEntries(Object.entries(slots).filter(([, amount]) => amount > 0n));
}
