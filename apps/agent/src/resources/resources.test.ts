import { parseResourceSlots } from '@backend.ai/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { machineSlots } from './machine-slots.ts';
import { SlotLedger } from './slot-ledger.ts';
import { UidPool, uidBaseOf, uidsPerInstallation } from './uid-pool.ts';

describe('the ledger of an agent', () => {
  it('never gives out more than there is, and gets everything back', () => {
    const holder = fc.constantFrom('a', 'b', 'c', 'd', 'e');
    const action = fc.record({ holder, cpu: fc.integer({ min: 1, max: 4 }), take: fc.boolean() });
    fc.assert(
      fc.property(fc.array(action, { maxLength: 50 }), (actions) => {
        const ledger = new SlotLedger(parseResourceSlots({ cpu: 6 }));
        for (const { holder, cpu, take } of actions) {
          try {
            if (take) ledger.reserve(holder, parseResourceSlots({ cpu }));
            else ledger.release(holder);
          } catch (error) {
            expect(error).toMatchObject({ code: 'insufficient-capacity' });
          }
          expect(ledger.used.cpu ?? 0n).toBeLessThanOrEqual(6000n);
        }
        for (const name of 'abcde') ledger.release(name);
        expect(ledger.used).toEqual({});
      }),
    );
  });
});

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
  it('leaves a reserve for the agent and the system', () => {
    const gibibyte = 1024 ** 3;
    expect(machineSlots({ cpus: 2, memoryBytes: 4 * gibibyte })).toEqual(parseResourceSlots({ cpu: 2, mem: '3840m' }));
    expect(machineSlots({ cpus: 64, memoryBytes: 512 * gibibyte })).toEqual(
      parseResourceSlots({ cpu: 64, mem: '510g' }),
    );
    expect(machineSlots({ cpus: 1, memoryBytes: gibibyte / 8 })).toEqual(parseResourceSlots({ cpu: 1, mem: '64m' }));
  });
});
