import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecuteInput } from '@backend.ai/contract';
import { type Clock, deferred, systemClock } from '@backend.ai/core';
import { FakeClock } from '@backend.ai/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { collectRun } from '../../runner/collect-run.ts';
import { RunDirectory } from '../../runner/run-directory.ts';
import { RunJournal } from '../../runner/run-journal.ts';
import type { KernelEnd } from '../backend.ts';
import { KernelClock } from './kernel-clock.ts';
import { Runs } from './runs.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'bai-runs-'));
  mkdirSync(join(folder, 'runs'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const input = (more: Partial<ExecuteInput>): ExecuteInput => ({
  mode: 'query',
  code: '',
  options: {},
  flushMs: 0,
  holdMs: 0,
  timeoutMs: 0,
  ...more,
});
const write = (runId: string, record: object): void =>
  appendFileSync(join(folder, 'runs', `${runId}.jsonl`), `${JSON.stringify(record)}\n`);

/** Runs over real journals; a runner that takes everything and finishes nothing. */
function kernel(clock: Clock = systemClock, expired: string[] = []) {
  const directory = new RunDirectory(folder);
  const end = deferred<KernelEnd>();
  const begun: string[] = [];
  const untold = () => undefined;
  const journal = (runId: string) =>
    new RunJournal(directory, runId, { onRunEvent: () => () => {}, untold }, systemClock);
  const client = {
    execute: async (runId: string) => {
      begun.push(runId);
      appendFileSync(join(folder, 'runs', `${runId}.jsonl`), '');
    },
    journal,
    untold,
    collect: (runId: string, cursor: number, options: object) =>
      collectRun(journal(runId), cursor, { flushMs: 0, holdMs: 0, ended: end.promise, ...options }),
  };
  const deadlinesFile = join(folder, 'deadlines.json');
  const runs = new Runs({
    client: client as never,
    runDirectory: folder,
    incidents: () => ({ outOfMemory: 0, processLimit: 0 }),
    deadlinesFile,
    clock,
    ended: end.promise,
    onExpired: (runId) => expired.push(runId),
  });
  return { runs, begun, end: () => end.resolve({ exitCode: 9, reason: 'self-terminated' }), deadlinesFile };
}

describe('executions of a kernel', () => {
  it('have used up their time only when their programs ran for that long, also under the next agent', async () => {
    const clock = new FakeClock();
    const start = (paused: boolean) => new KernelClock({ clock, file: join(folder, 'clock.json'), paused });
    const expired: string[] = [];
    const first = start(false);
    const { runs } = kernel(first, expired);
    await runs.execute(input({ runId: 'a', timeoutMs: 10_000 }), undefined);
    await clock.advance(9_000);
    first.hold(true);
    await clock.advance(60_000);
    runs.close();
    const second = start(true);
    kernel(second, expired);
    await clock.advance(60_000);
    second.hold(false);
    await clock.advance(999);
    expect(expired).toEqual([]);
    await clock.advance(1);
    expect(expired).toEqual(['a']);
  });

  it('that nobody began are unknown, and asking for them leaves nothing behind', async () => {
    const { runs, end } = kernel();
    for (let i = 0; i < 1_000; i++) {
      const mode = i % 2 ? 'continue' : 'input';
      await expect(runs.execute(input({ mode, runId: `made-up-${i}` }), undefined)).rejects.toMatchObject({
        code: 'run-not-found',
      });
    }
    end();
    expect((await runs.lastWords()).size).toBe(0);
  });

  it('that an earlier life of the agent began are found by their journals', async () => {
    const { runs } = kernel();
    write('before', { t: 'stdout', d: 'hello' });
    write('before', { t: 'finished', x: 0 });
    expect(await runs.execute(input({ mode: 'continue', runId: 'before' }), undefined)).toMatchObject({
      status: 'finished',
      console: [['stdout', 'hello']],
    });
  });

  it('that have ended say so to a reader who stands behind their end, also when the kernel has ended since', async () => {
    const { runs, end } = kernel();
    await runs.execute(input({ runId: 'a' }), undefined);
    write('a', { t: 'finished', x: 3 });
    const again = (): Promise<unknown> => runs.execute(input({ mode: 'continue', runId: 'a' }), undefined);
    expect(await again()).toMatchObject({ status: 'finished', exitCode: 3, notices: [] });
    end();
    expect(await again()).toMatchObject({ status: 'finished', notices: [] });
  });

  it('are looked at without a descriptor that stays, whatever comes of it', async () => {
    const open = (): number => readdirSync('/proc/self/fd').length;
    const { runs } = kernel();
    await runs.execute(input({ runId: 'whole' }), undefined);
    await runs.execute(input({ runId: 'damaged' }), undefined);
    const before = open();
    write('whole', { t: 'stdout', d: 'text' });
    await runs.execute(input({ mode: 'continue', runId: 'whole' }), undefined);
    appendFileSync(join(folder, 'runs', 'damaged.jsonl'), 'nonsense\n');
    await expect(runs.execute(input({ mode: 'continue', runId: 'damaged' }), undefined)).rejects.toMatchObject({
      code: 'kernel-lost',
    });
    expect(open()).toBe(before);
  });

  it('say that the disk was full, once they have ended', async () => {
    const { runs } = kernel();
    write('full', { t: 'finished', x: 1, full: true });
    expect(await runs.execute(input({ mode: 'continue', runId: 'full' }), undefined)).toMatchObject({
      exitCode: 1,
      notices: [{ code: 'disk-full' }],
    });
  });

  it('are forgotten when they are over, and refused when too many are not', async () => {
    const { runs, begun, deadlinesFile } = kernel();
    const begin = (runId: string) => runs.execute(input({ runId, timeoutMs: 60_000 }), undefined);
    for (let i = 0; i < 256; i++) await begin(`run-${i}`);
    await expect(begin('one-more')).rejects.toMatchObject({ code: 'kernel-busy' });
    expect(begun).not.toContain('one-more');
    // It ended, and nobody asked how.
    write('run-7', { t: 'finished', x: 0 });
    await begin('one-more');
    expect(existsSync(deadlinesFile)).toBe(true);
    runs.close();
  });

  it('leave last words of a limited size, with how they ended', async () => {
    const { runs, end } = kernel();
    const texts = 40;
    for (const runId of ['a', 'b', 'c', 'd', 'e', 'f']) {
      await runs.execute(input({ runId }), undefined);
      for (let i = 0; i < texts; i++) write(runId, { t: 'stdout', d: 'x'.repeat(60_000) });
      write(runId, { t: 'finished', x: 3 });
    }
    end();
    const words = await runs.lastWords();
    expect([...words.values()].map(({ status, exitCode }) => [status, exitCode])).toEqual(
      Array.from({ length: 6 }, () => ['finished', 3]),
    );
    const size = JSON.stringify([...words.values()]).length;
    expect(size).toBeGreaterThan(3 * 1024 * 1024);
    expect(size).toBeLessThan(5 * 1024 * 1024);
    for (const { notices } of words.values()) expect(notices).toMatchObject([{ code: 'output-limit-exceeded' }]);
  });
});
