import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Kernel, python } from './runner.test.kit.ts';
import type { RunnerClient } from './runner-client.ts';

/** What a batch run does besides running three commands; that is in runner.test.ts. */

const hasCompiler = ((): boolean => {
  try {
    execFileSync('cc', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();

const languages = [...(python ? (['python', 'shell'] as const) : []), 'node' as const];

describe.each(languages)('a batch run of a %s kernel', (language) => {
  let kernel: Kernel;
  let client: RunnerClient;
  beforeEach(async () => {
    kernel = new Kernel(language);
    client = await kernel.connect();
  });
  afterEach(() => kernel.stop());

  it.skipIf(!hasCompiler)(
    'compiles C sources, runs the program, and removes it, when told to do what is usual',
    async () => {
      kernel.file(
        'hello.c',
        '#include <stdio.h>\nint helper(void);\nint main() { printf("%d\\n", helper()); return 4; }\n',
      );
      kernel.file('helper.c', 'int helper(void) { return 42; }\n');
      const outcome = await kernel.finish(client, { mode: 'batch', clean: '*', build: '*', exec: '*' });
      expect(outcome).toMatchObject({ exitCode: 4, stdout: '42\n' });
      expect(existsSync(join(kernel.home, 'main'))).toBe(true);
      await kernel.finish(client, { mode: 'batch', clean: '*' });
      expect(existsSync(join(kernel.home, 'main'))).toBe(false);
    },
  );

  it('skips usual steps for which there is nothing', async () => {
    const outcome = await kernel.finish(client, { mode: 'batch', clean: '*', build: '*', exec: 'echo done' });
    expect(outcome).toMatchObject({ exitCode: 0, stdout: 'done\n', statuses: ['finished'] });
  });

  it('kills a step that takes longer than it may, and goes on with the next run', async () => {
    const late = await kernel.finish(client, {
      mode: 'batch',
      exec: 'echo up; sleep 1000',
      timeoutsMs: { exec: 300 },
    });
    expect(late).toMatchObject({ exitCode: 124, stdout: 'up\n' });
    expect(late.stderr).toContain('longer than it may');
    expect(await kernel.finish(client, { mode: 'batch', exec: 'echo next' })).toMatchObject({ stdout: 'next\n' });
  });

  it('takes a build that is late for one that failed', async () => {
    const batch = { mode: 'batch', build: 'sleep 1000', exec: 'echo never', timeoutsMs: { build: 100 } } as const;
    const outcome = await kernel.finish(client, batch);
    expect(outcome).toMatchObject({ exitCode: 127, stdout: '', statuses: ['build-finished', 'finished'] });
  });

  it('keeps what a build prints out of the result on request', async () => {
    const batch = { mode: 'batch', build: 'echo built', exec: 'echo run', buildLog: false } as const;
    expect(await kernel.finish(client, batch)).toMatchObject({ exitCode: 0, stdout: 'run\n' });
  });
});

it.skipIf(!python)('a Python folder with a setup.py is installed by its own interpreter', async () => {
  const kernel = new Kernel('python');
  try {
    const client = await kernel.connect();
    kernel.file('setup.py', '');
    kernel.file('pip.py', 'import sys; print("pip", *sys.argv[1:])\n');
    const outcome = await kernel.finish(client, { mode: 'batch', build: '*' });
    expect(outcome.stdout).toBe('pip install -e .\n');
  } finally {
    await kernel.stop();
  }
});
