import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { AppError, systemClock } from '@backend.ai/core';
import { collectLogs } from '@backend.ai/testing';
import { expect, it, onTestFinished } from 'vitest';
import type { KernelUsage } from '../backend.ts';
import { RunnerKernel } from './runner-kernel.ts';
import { scratchPaths } from './scratch.ts';

const { logger } = collectLogs('agent');

/** Programs that do as they are told, unless holding them fails. */
class ObedientKernel extends RunnerKernel {
  readonly told: string[] = [];
  failure: AppError | undefined;

  constructor(paused: boolean) {
    const root = mkdtempSync(join(tmpdir(), 'runner-kernel-'));
    onTestFinished(() => rmSync(root, { recursive: true }));
    const paths = scratchPaths(root, 'kernel');
    mkdirSync(paths.folder);
    const isolation = {} as never;
    super({ paths, isolation, uid: null, services: [], cgroups: [], paused, clock: systemClock, logger });
  }

  protected async kill(): Promise<void> {
    this.told.push('kill');
    this.end(null);
  }

  protected async askToEnd(): Promise<void> {
    this.told.push('ask to end');
  }

  protected async hold(still: boolean): Promise<void> {
    this.told.push(still ? 'stand still' : 'go on');
    if (this.failure) throw this.failure;
  }

  pids(): number[] {
    return [];
  }

  protected detach(): void {}

  protected connectToPort(): Promise<Duplex> {
    throw new Error('It has no ports.');
  }

  measure(): Promise<KernelUsage> {
    throw new Error('It uses nothing.');
  }
}

it('a paused kernel is ended, also when it cannot be resumed', async () => {
  const kernel = new ObedientKernel(true);
  kernel.failure = new AppError('engine-unavailable', 'The engine hangs.');
  await kernel.stop('user-requested', false);
  expect(kernel.told).toEqual(['go on', 'ask to end', 'kill']);
  expect(await kernel.ended).toMatchObject({ reason: 'user-requested' });
});

it('a pause that failed, and may come later, can be taken back; what is paused is not paused again', async () => {
  const kernel = new ObedientKernel(false);
  kernel.failure = new AppError('engine-unavailable', 'The engine hangs.');
  await expect(kernel.pause()).rejects.toMatchObject({ code: 'engine-unavailable' });
  kernel.failure = undefined;
  await kernel.resume();
  expect(kernel.told).toEqual(['stand still', 'go on']);
  await kernel.pause();
  await kernel.pause();
  expect(kernel.told).toEqual(['stand still', 'go on', 'stand still']);
  // The clock of its time limits does, too, also under the next agent.
  const kept = () => JSON.parse(readFileSync(join(kernel.scratch, 'clock.json'), 'utf8')).since;
  expect(kept()).toBeGreaterThan(0);
  await kernel.resume();
  expect(kept()).toBe(null);
});
