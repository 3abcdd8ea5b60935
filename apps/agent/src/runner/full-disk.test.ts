import { existsSync } from 'node:fs';
import { smallDisk, smallDiskMissing } from '@backend.ai/testing';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Kernel, python, until } from './runner.test.kit.ts';
import type { RunnerLanguage } from './runner-command.ts';

const languages = [
  { language: 'python', print: 'print("x" * 20000)', ask: 'input("more? ")', missing: python === undefined },
  { language: 'node', print: 'console.log("x".repeat(20000))', ask: 'await input("more? ")', missing: false },
  {
    language: 'shell',
    print: 'printf %20000s x',
    ask: 'read answer; echo "$answer"',
    missing: !existsSync('/bin/bash'),
  },
] as const;

describe.each(languages)('a $language kernel on a full disk', ({ language, print, ask, missing }) => {
  const skipped = missing ? 'no interpreter' : smallDiskMissing;
  const it_ = it.skipIf(skipped !== null);

  it_(`tells the end of a run, and that it was full, whether room comes back or not${because(skipped)}`, async () => {
    const { kernel, client, disk } = await start(language);
    disk.fill();
    const full = { mode: 'batch', exec: 'head -c 20000 /dev/zero | tr "\\0" x; exit 3' } as const;
    expect(await kernel.finish(client, full, 'fills')).toMatchObject({ status: 'finished', exitCode: 3 });
    expect(client.untold('fills')).toMatchObject({ t: 'finished', x: 3, full: true });
    // The next one does not wait for it, and somebody who comes later hears it, too.
    expect(await kernel.finish(client, print, 'query')).toMatchObject({ status: 'finished', exitCode: 0 });
    const later = await kernel.connect();
    expect(await kernel.follow(later, 'fills', 0)).toMatchObject({ exitCode: 3 });
    disk.free();
    await until(
      'the end in the journal',
      () => later.untold('fills') === undefined && later.untold('query') === undefined,
    );
    const written = later.journal('fills').read(0, 1 << 20);
    expect(written).toMatchObject({ done: true });
    expect(written.records.at(-1)).toMatchObject({ t: 'finished', x: 3, full: true });
    const next = await kernel.finish(client, { mode: 'batch', exec: 'echo next' });
    expect(next).toMatchObject({ exitCode: 0, stdout: 'next\n' });
  });

  it_(`asks its questions, and output goes on once there is room${because(skipped)}`, async () => {
    const { kernel, client, disk } = await start(language);
    disk.fill();
    const asked = await kernel.finish(client, `${print}\n${ask}`, 'asks');
    expect(asked.status).toBe('waiting-input');
    disk.free();
    await until('the question in the journal', () => client.untold('asks') === undefined);
    await client.input('asks', 'yes\n');
    const { stdout, exitCode } = await kernel
      .follow(client, 'asks', 0)
      .then(async (first) =>
        first.status === 'waiting-input' ? await kernel.follow(client, 'asks', first.cursor) : first,
      );
    expect([stdout.includes('yes'), exitCode]).toEqual([true, 0]);
  });
});

async function start(language: RunnerLanguage) {
  const disk = await smallDisk('1m');
  const kernel = new Kernel(language, undefined, { disk });
  onTestFinished(() => kernel.stop());
  const client = await kernel.connect();
  await kernel.finish(client, { mode: 'batch', exec: 'echo up' });
  return { disk, kernel, client };
}

function because(reason: string | null): string {
  return reason === null ? '' : ` (skipped: ${reason})`;
}
