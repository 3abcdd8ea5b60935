import { parseResourceSlots } from '@backend.ai/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { capacityOf, type Inventory } from './inventory.ts';
import { machineInventory, statedInventory } from './machine-inventory.ts';
import { flatTopology } from './numa.ts';
import { UidPool, uidBaseOf, uidsPerInstallation } from './uid-pool.ts';

describe('user ids of kernels', () => {
  it('are distinct while in use and come back as late as possible', () => {
    const pool = new UidPool(1000, 3);
    const [a, b] = [pool.allocate(), pool.allocate()];
    pool.release(a);
    expect([a, b, pool.allocate(), pool.allocate()]).toEqual([1000, 1001, 1002, 1000]);
    expect(() => pool.allocate()).toThrow('no user id left');
  });

  it('of one installation do not reach into the range of ordinary users or of another', () => {
    fc.assert(
      fc.property(fc.string(), (id) => {
        const base = uidBaseOf(id);
        expect(base).toBeGreaterThanOrEqual(700_000);
        expect((base - 700_000) % uidsPerInstallation).toBe(0);
        expect(base + uidsPerInstallation).toBeLessThan(2 ** 31);
      }),
    );
  });
});

describe('what a machine offers', () => {
  const gibibyte = 1024 ** 3;
  const machine = (cpus: number, gibibytes: number, cpuLimit = cpus) => ({
    cpus: Array.from({ length: cpus }, (_, cpu) => cpu),
    cpuLimit,
    memoryBytes: gibibytes * gibibyte,
    topology: { ...flatTopology, nodeOfCpu: new Map(Array.from({ length: cpus }, (_, cpu) => [cpu, cpu % 2])) },
  });
  const offered = (...facts: Parameters<typeof machine>) => capacityOf(machineInventory(machine(...facts)));
  const cpusOf = (inventory: Inventory) =>
    inventory.pools.find(({ slot }) => slot === 'cpu')?.devices.map(({ id }) => id);

  it('leaves a reserve for the agent and the system, by its size, and memory in multiples of 16 MiB', () => {
    expect(offered(2, 4)).toEqual(parseResourceSlots({ cpu: 2, mem: '3840m' }));
    expect(offered(64, 512)).toEqual(parseResourceSlots({ cpu: 63, mem: '511g' }));
    expect(offered(1, 1 / 8)).toEqual(parseResourceSlots({ cpu: 1, mem: '64m' }));
    expect(offered(4, 4.01)).toEqual(parseResourceSlots({ cpu: 4, mem: '3840m' }));
  });

  it('leaves the reserve that an operator names, though never nothing', () => {
    const inventory = machineInventory(machine(16, 64), { cpus: 3, memoryBytes: 8 * gibibyte });
    expect(capacityOf(inventory)).toEqual(parseResourceSlots({ cpu: 13, mem: '56g' }));
    expect(cpusOf(inventory)?.slice(0, 2)).toEqual(['3', '4']);
    expect(capacityOf(machineInventory(machine(2, 1), { cpus: 9, memoryBytes: 9 * gibibyte }))).toEqual(
      parseResourceSlots({ cpu: 1, mem: '64m' }),
    );
  });

  it('are processors with their nodes, as many as it may keep busy', () => {
    const [cpu] = machineInventory(machine(4, 4, 2)).pools;
    expect(cpu?.devices.map(({ id, numaNode }) => [id, numaNode])).toEqual([
      ['2', 0],
      ['3', 1],
    ]);
  });

  it('is what an operator says: real processors as far as there are so many', () => {
    const of = (slots: Record<string, string | number>) => statedInventory(parseResourceSlots(slots), machine(4, 4));
    expect([of({ cpu: 3 }).realCpus, cpusOf(of({ cpu: 3 }))]).toEqual([true, ['1', '2', '3']]);
    for (const cpu of [8, '1.5']) expect([of({ cpu }).realCpus, cpusOf(of({ cpu }))]).toEqual([false, ['root']]);
    expect(capacityOf(of({ cpu: 8, mem: '1g', 'tpu.device': 2 }))).toEqual(
      parseResourceSlots({ cpu: 8, mem: '1g', 'tpu.device': 2 }),
    );
  });
});
