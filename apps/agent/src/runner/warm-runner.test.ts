import { hasCode } from '@backend.ai/core';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Kernel, python } from './runner.test.kit.ts';
import type { RunnerLanguage } from './runner-command.ts';

/** What prints two variables, and what it says. */
const languages: ReadonlyArray<readonly [RunnerLanguage, string, string]> = [
  ['node', 'console.log(process.env.TOKEN, process.env.BEFORE)', 'abc of the engine'],
  ...(python === undefined
    ? []
    : ([
        ['python', 'import os; print(os.environ["TOKEN"], os.environ.get("BEFORE"))', 'abc of the engine'],
        ['shell', 'echo "$TOKEN" "$BEFORE."', 'abc of the engine.'],
      ] as const)),
];

describe.each(languages)('a %s runner that was started ahead', (language, code, printed) => {
  it('runs nothing until it is handed over, once, and then in the environment of its session, beside what its engine gave', async () => {
    const kernel = new Kernel(language, undefined, {
      isWarm: true,
      env: { BEFORE: 'of the engine', TOKEN: 'of the slot' },
    });
    onTestFinished(() => kernel.stop());
    const client = await kernel.connect();
    await expect(client.execute('too-early', { mode: 'query', code })).rejects.toSatisfy((error) =>
      hasCode(error, 'state-conflict'),
    );
    await expect(client.openTerminal({ name: 'main', rows: 24, cols: 80, term: 'xterm' })).rejects.toThrow();
    const environ = { PATH: process.env.PATH ?? '', TOKEN: 'abc' };
    await client.claim(environ);
    expect(await kernel.finish(client, code)).toMatchObject({ stdout: `${printed}\n`, exitCode: 0 });
    await expect(client.claim({ ...environ, TOKEN: 'other' })).rejects.toSatisfy((error) =>
      hasCode(error, 'invalid-input'),
    );
    expect(await kernel.finish(client, { mode: 'batch', exec: 'echo "$TOKEN" "$BEFORE."' })).toMatchObject({
      stdout: 'abc of the engine.\n',
    });
  });
});

it('a runner of an ordinary kernel is handed over to nobody', async () => {
  const kernel = new Kernel('node');
  onTestFinished(() => kernel.stop());
  const client = await kernel.connect();
  await expect(client.claim({})).rejects.toSatisfy((error) => hasCode(error, 'invalid-input'));
});
