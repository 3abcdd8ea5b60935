import type { KernelSpec } from '@backend.ai/contract';
import { AppError, parseResourceSlots, systemClock } from '@backend.ai/core';
import { BackgroundTasks, ensureRequestId } from '@backend.ai/telemetry';
import { collectLogs, waitFor } from '@backend.ai/testing';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Accelerators } from '../accelerators/accelerators.ts';
import type { CreateStep, Stray } from '../backends/backend.ts';
import { FakeBackend } from '../backends/fake/fake-backend.ts';
import { AllocationLedger } from '../resources/allocation-ledger.ts';
import { plainInventory } from '../resources/machine-inventory.ts';
import type { UnnumberedEvent } from './outbox.ts';
import { KernelSupervisor } from './supervisor.ts';

const spec: KernelSpec = {
  kernelId: '0b5a0c2e-6f51-4f0c-9d2b-1f5a1f2f3a4b',
  sessionId: '7c1f5a4e-0b1c-4c52-8f35-9c3e1d2a5b6c',
  sessionName: 'test',
  accessKey: 'AKTEST',
  image: 'local/python:3.11',
  clusterRole: 'main',
  clusterIndex: 1,
  hostname: 'main1',
  slots: { cpu: '1' },
  environ: {},
};

/** Simulated kernels of which some steps cannot be undone for a while. */
async function supervisorWith(...stuckSteps: string[]) {
  const stuck = new Set(stuckSteps);
  const undone: string[] = [];
  let sweeps = 0;
  class StubbornBackend extends FakeBackend {
    override plan(wanted: KernelSpec) {
      const plan = super.plan(wanted);
      const stubborn = (step: CreateStep): CreateStep => ({
        ...step,
        run: (signal, tell) => step.run(signal, tell),
        undo: async () => {
          if (stuck.has(step.name)) throw new Error(`${step.name} cannot be undone`);
          await step.undo();
          undone.push(step.name);
        },
      });
      return { ...plan, steps: plan.steps.map(stubborn) };
    }
    override async strays(isKnown: (kernelId: string) => boolean): Promise<Stray[]> {
      sweeps += 1;
      if (stuck.has('sweep')) throw new Error('a stray cannot be removed');
      return await super.strays(isKnown);
    }
  }
  const logs = collectLogs('agent');
  const { logger } = logs;
  const events: UnnumberedEvent[] = [];
  const tasks = new BackgroundTasks(logger);
  const backend = new StubbornBackend({ clock: systemClock });
  const ledger = new AllocationLedger(plainInventory(parseResourceSlots({ cpu: 1 })));
  const accelerators = new Accelerators({ sources: [], clock: systemClock, logger });
  const report = (event: UnnumberedEvent): void => {
    if (stuck.has(event.type)) throw new Error('it cannot be told');
    events.push(event);
  };
  const after = (step: string): void => {
    if (stuck.has('disk') && step === 'write-facts') {
      const full = Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
      throw new AppError('internal', 'It could not be written.', { cause: full });
    }
  };
  const usedBy = async () => undefined;
  const supervisor = new KernelSupervisor({
    diskFull: () => false,
    ...{ backend, ledger, accelerators, tasks, report, faults: { after }, usedBy, clock: systemClock, logger },
  });
  await ensureRequestId(() => supervisor.recover());
  onTestFinished(async () => {
    stuck.clear();
    await supervisor.release();
    await tasks.drain();
  });
  const create = (kernelId = spec.kernelId, more: Partial<KernelSpec> = {}): void =>
    ensureRequestId(() => supervisor.create({ ...spec, ...more, kernelId }));
  const types = (): string[] => events.map(({ type }) => type);
  const failures = (): number => logs.records.filter(({ msg }) => msg === 'create step could not be undone').length;
  return {
    supervisor,
    stuck,
    undone,
    backend,
    events,
    types,
    failures,
    sweeps: () => sweeps,
    create,
    async startAndEnd() {
      create();
      await waitFor(() => types().includes('kernel-started'));
      ensureRequestId(() => supervisor.destroy(spec.kernelId, 'user-requested', true));
    },
  };
}

it('a start that fails of a full disk says so, and leaves nothing', async () => {
  const w = await supervisorWith('disk');
  w.create();
  await waitFor(() => w.types().includes('kernel-start-failed'));
  expect(w.events.at(-1)).toMatchObject({ error: { code: 'disk-full' }, failedStep: 'write-facts' });
  expect(w.supervisor.reports()).toEqual([]);
  w.stuck.clear();
  w.create('9d2a8c64-0d07-4a9b-b6a3-6c2f4a1d7e55');
  await waitFor(() => w.types().includes('kernel-started'));
});

it('a kernel is gone also when its end cannot be told', async () => {
  const w = await supervisorWith('kernel-terminated');
  w.create();
  const { gone } = w.supervisor.get(spec.kernelId);
  await waitFor(() => w.types().includes('kernel-started'));
  ensureRequestId(() => w.supervisor.destroy(spec.kernelId, 'user-requested', true));
  await gone.promise;
  expect(w.supervisor.reports()).toEqual([]);
});

describe('a kernel that cannot be removed at once', () => {
  it('has not ended before its processes have; nothing they use is removed', async () => {
    const w = await supervisorWith();
    w.stuck.add('launch');
    await w.startAndEnd();
    await waitFor(() => w.failures() >= 2);
    expect(w.undone).toEqual(['await-runner']);
    expect(w.types()).not.toContain('kernel-terminated');
    expect(w.supervisor.reports()).toMatchObject([{ state: 'terminating' }]);
    expect(() => w.create('9d2a8c64-0d07-4a9b-b6a3-6c2f4a1d7e55')).toThrow('cpu');
    w.stuck.clear();
    await waitFor(() => w.types().includes('kernel-terminated'));
    expect(w.undone.slice(1)).toEqual(['launch', 'write-facts', 'make-cgroups', 'allocate-uid', 'make-scratch']);
    expect(w.backend.remains.size).toBe(0);
  });

  it('has ended and holds no resources when only files are left, which are removed later', async () => {
    const w = await supervisorWith();
    w.stuck.add('allocate-uid');
    await w.startAndEnd();
    await waitFor(() => w.types().includes('kernel-terminated'));
    expect(w.undone).not.toContain('make-scratch');
    expect(w.supervisor.reports()).toEqual([]);
    w.create('9d2a8c64-0d07-4a9b-b6a3-6c2f4a1d7e55');
    w.stuck.clear();
    await waitFor(() => w.undone.includes('make-scratch'));
    expect(w.types().filter((type) => type === 'kernel-terminated')).toHaveLength(1);
  });

  it('lets none of the same id start while its files are there', async () => {
    const w = await supervisorWith();
    w.create();
    w.stuck.add('make-scratch');
    ensureRequestId(() => w.supervisor.destroy(spec.kernelId, 'user-requested', true));
    await waitFor(() => w.types().includes('kernel-terminated'));
    expect(() => w.create()).toThrow('still being removed');
    w.stuck.clear();
    await waitFor(() => w.undone.includes('make-scratch'));
    w.create();
    await waitFor(() => w.types().includes('kernel-started'));
  });
});

it('strays that cannot be removed at the start are tried again, until they are gone', async () => {
  const w = await supervisorWith('sweep');
  await waitFor(() => w.sweeps() >= 2);
  w.stuck.clear();
  const tried = w.sweeps();
  await waitFor(() => w.sweeps() > tried);
});

it('a batch job does not begin in a kernel that is paused, and waits for the next order', async () => {
  const w = await supervisorWith();
  w.create(spec.kernelId, { batch: { startupCommand: 'true', onOrder: true } });
  await waitFor(() => w.types().includes('kernel-started'));
  const { running } = w.supervisor.get(spec.kernelId);
  await running.pause();
  expect(() => w.supervisor.beginBatch(spec.kernelId)).toThrow(expect.objectContaining({ code: 'session-paused' }));
  expect(w.supervisor.reports()).toMatchObject([{ batchWaits: true }]);
  await running.resume();
  w.supervisor.beginBatch(spec.kernelId);
  await waitFor(() => w.types().includes('batch-finished'));
});
