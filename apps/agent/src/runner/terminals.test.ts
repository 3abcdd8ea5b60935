import { terminalSchema } from '@backend.ai/contract';
import { expect, it, onTestFinished } from 'vitest';
import { Kernel, python } from './runner.test.kit.ts';
import { terminalSuite } from './terminal-suite.test.kit.ts';

for (const language of [...(python ? (['python'] as const) : []), 'node', 'shell'] as const) {
  terminalSuite(`a terminal of a ${language} kernel`, async () => new Kernel(language));
}

it.skipIf(!python)('refuses names, sizes and types that are none', async () => {
  const kernel = new Kernel('python');
  onTestFinished(() => kernel.stop());
  const client = await kernel.connect();
  for (const wrong of [{ name: '../x' }, { rows: 0 }, { cols: 70_000 }, { term: 'a\nb' }]) {
    await expect(client.openTerminal({ ...terminalSchema.parse({}), ...wrong })).rejects.toMatchObject({
      code: 'invalid-input',
    });
  }
});
