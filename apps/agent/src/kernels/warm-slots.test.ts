import type { KernelSpec, WarmSlotSpec } from '@backend.ai/contract';
import { deferred, newId, parseResourceSlots, slotsToTexts, systemClock } from '@backend.ai/core';
import { BackgroundTasks, ensureRequestId } from '@backend.ai/telemetry';
import { collectLogs, waitFor } from '@backend.ai/testing';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Accelerators } from '../accelerators/accelerators.ts';
import type { CreateStep } from '../backends/backend.ts';
import { FakeBackend } from '../backends/fake/fake-backend.ts';
import { slotAsKernel } from '../backends/slot-as-kernel.ts';
import { AllocationLedger } from '../resources/allocation-ledger.ts';
import { plainInventory } from '../resources/machine-inventory.ts';
import type { UnnumberedEvent } from './outbox.ts';
import { KernelSupervisor } from './supervisor.ts';

const image = 'local/python:3.11';
const slotOf = (slots: Record<string, string>): WarmSlotSpec => ({ slotId: newId(), image, slots });
const orderFor = (slot: WarmSlotSpec): KernelSpec => ({
  ...slotAsKernel(slot),
  sessionId: newId(),
  accessKey: 'AKTEST',
});

/**
 * Simulated kernels that are not removed before `removal` says so; the last step of handing a slot over fails if asked
 * for.
 */
async function supervisorWith(capacity: Record<string, number>, failStep?: string) {
  const removal = deferred<void>();
  let removing = 0;
  class SlowBackend extends FakeBackend {
    override plan(wanted: KernelSpec) {
      const plan = super.plan(wanted);
      const slow = (step: CreateStep): CreateStep => ({
        ...step,
        run: (signal, tell) => step.run(signal, tell),
        undo: async () => {
          removing += 1;
          await removal.promise;
          await step.undo();
        },
      });
      return { ...plan, steps: plan.steps.map(slow) };
    }
  }
  const { logger } = collectLogs('agent');
  const events: UnnumberedEvent[] = [];
  const tasks = new BackgroundTasks(logger);
  const script = () => (failStep ? { failStep } : {});
  const backend = new SlowBackend({ clock: systemClock, script });
  const ledger = new AllocationLedger(plainInventory(parseResourceSlots(capacity)));
  const accelerators = new Accelerators({ sources: [], clock: systemClock, logger });
  const report = (event: UnnumberedEvent): void => void events.push(event);
  const supervisor = new KernelSupervisor({
    diskFull: () => false,
    ...{ backend, ledger, accelerators, tasks, report, clock: systemClock, logger },
    usedBy: async () => undefined,
  });
  await ensureRequestId(() => supervisor.recover());
  onTestFinished(async () => {
    removal.resolve();
    await supervisor.release();
    await tasks.drain();
  });
  const states = () => supervisor.warmSlots.reports().map(({ slotId, state }) => [slotId, state]);
  return {
    ...{ supervisor, removal, states },
    removing: () => removing > 0,
    used: () => slotsToTexts(ledger.used),
    types: () => events.map(({ type }) => type),
    keep: (...slots: WarmSlotSpec[]) =>
      ensureRequestId(() => supervisor.warmSlots.keep({ wished: slots, claimed: [] })),
    create: (order: KernelSpec) => ensureRequestId(() => supervisor.create(order)),
    destroy: (id: string) => ensureRequestId(() => supervisor.destroy(id, 'user-requested', true)),
    untilReady: () => waitFor(() => states().every(([, state]) => state === 'ready')),
  };
}

describe('warm slots', () => {
  it('hold nothing any more once they are given up, though they are not gone yet', async () => {
    const w = await supervisorWith({ cpu: 1 });
    const slot = slotOf({ cpu: '1' });
    w.keep(slot);
    await w.untilReady();
    w.keep();
    expect(w.used()).toEqual({});
    w.create(orderFor(slotOf({ cpu: '1' })));
    await waitFor(() => w.types().includes('kernel-started'));
    w.removal.resolve();
    await waitFor(() => !w.supervisor.warmSlots.has(slot.slotId));
    expect(w.used()).toEqual({ cpu: '1' });
  });

  it('give way only if they hold what a kernel lacks, and if that is enough for it', async () => {
    const w = await supervisorWith({ cpu: 4, 'cuda.device': 1 });
    const [plain, accelerated] = [slotOf({ cpu: '1' }), slotOf({ cpu: '1', 'cuda.device': '1' })];
    w.keep(plain, accelerated);
    await w.untilReady();
    w.create(orderFor(slotOf({ cpu: '1', 'cuda.device': '1' })));
    expect(w.states()).toEqual([[plain.slotId, 'ready']]);
    for (const tooLarge of [slotOf({ cpu: '1', 'cuda.device': '1' }), slotOf({ cpu: '4' })]) {
      expect(() => w.create(orderFor(tooLarge))).toThrow();
      expect(w.states()).toEqual([[plain.slotId, 'ready']]);
    }
    w.create(orderFor(slotOf({ cpu: '3' })));
    expect(w.states()).toEqual([]);
  });

  it('are not replaced by a start of a kernel that is destroyed while its slot is removed', async () => {
    const w = await supervisorWith({ cpu: 1 }, 'hand-over');
    const slot = slotOf({ cpu: '1' });
    w.keep(slot);
    await w.untilReady();
    w.create(orderFor(slot));
    await waitFor(w.removing);
    w.destroy(slot.slotId);
    w.removal.resolve();
    await waitFor(() => w.supervisor.reports().length === 0);
    expect(w.types()).toEqual(['kernel-preparing', 'kernel-terminated']);
  });
});
