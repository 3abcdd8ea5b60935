import { renderHelp } from '@backend.ai/cli-kit';
import { expect, it } from 'vitest';
import { runCli } from '../../testing/run-cli.ts';
import { commands } from './index.ts';

it.each(['storage', 'web', 'app-proxy-coordinator', 'app-proxy-worker'])(
  '%s answers whatever is asked of it in one sentence, with exit code 1',
  async (word) => {
    for (const rest of [['health'], ['start-server', '--config', 'x'], ['volume', 'get', 'a'], []]) {
      const { exitCode, stdout, stderr } = await runCli([word, ...rest]);
      expect([exitCode, stdout]).toEqual([1, '']);
      expect(stderr).toMatch(/^Error: The .* is not part of this version\. \[not-implemented\]\n/);
    }
    const { exitCode, json } = await runCli([word, 'health', '--json']);
    expect([exitCode, json.error.code]).toEqual([1, 'not-implemented']);
  },
);

it('absent components are in no list of commands, and have a help of their own', () => {
  const help = renderHelp(commands, '1');
  expect(help['']).not.toContain('storage');
  expect(help.storage).toMatch(/^The storage proxy, which is not part of this version\n\nUsage: /);
});
