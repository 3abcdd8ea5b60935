import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { renderHelp } from '@backend.ai/cli-kit';
import { expect, it, onTestFinished } from 'vitest';
import { runCli } from '../../testing/run-cli.ts';
import { commands } from './index.ts';

const words = ['storage', 'web', 'app-proxy-coordinator', 'app-proxy-worker'];

it.each(words)('%s answers whatever is asked of it in one sentence, with exit code 1', async (word) => {
  for (const rest of [['health'], ['start-server', '--config', 'x'], ['volume', 'get', 'a'], []]) {
    const { exitCode, stdout, stderr } = await runCli([word, ...rest]);
    expect([exitCode, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^Error: The .* is not part of this version\. \[not-implemented\]\n/);
  }
  const { exitCode, json } = await runCli([word, 'health', '--json']);
  expect([exitCode, json.error.code]).toEqual([1, 'not-implemented']);
});

it.each(words)('the configuration of %s can be shown and checked', async (word) => {
  const folder = mkdtempSync(join(tmpdir(), 'absent-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'x.toml');
  writeFileSync(file, '[metrics]\nport = 1\n');
  const shown = await runCli([word, 'config', 'show', '--config', file, '--json']);
  const settings = shown.json.settings as Array<{ key: string; value: unknown; origin: string }>;
  expect(settings.find(({ key }) => key === 'metrics.port')).toMatchObject({ value: 1, origin: `${file}:2:1` });
  writeFileSync(file, '[metrics]\nprot = 1\n');
  const { exitCode, stderr } = await runCli([word, 'config', 'check', '--config', file]);
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(/x\.toml:2.*metrics\.prot.*metrics\.port/s);
});

it('of absent components the list of commands has what can be done with their configurations', () => {
  const help = renderHelp(commands, '1');
  const listed = [...(help['']?.matchAll(/^ {2}(\S.*?) {2}/gm) ?? [])].map(([, name]) => name?.trim());
  expect(listed).toEqual(words.flatMap((word) => [`${word} config show`, `${word} config check`]));
  expect(help.storage).toMatch(/^The storage proxy, which is not part of this version\n\nUsage: /);
});
