import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { type CliContext, runCommands } from '@backend.ai/cli-kit';
import { tempDirectory } from '@backend.ai/testing';
import { expect, it } from 'vitest';
import { commands } from './index.ts';

it('commands about the agent ask where they are told, then at $BACKEND_DATA_DIR, then as configs/agent.toml says', async () => {
  const cwd = await tempDirectory();
  await mkdir(join(cwd, 'configs'));
  await writeFile(join(cwd, 'configs/agent.toml'), `[agent]\ndata-dir = "${join(cwd, 'configured')}"\n`, {
    mode: 0o600,
  });
  const asked = async (env: Record<string, string>, ...args: string[]): Promise<string | undefined> => {
    const [stdout, stderr] = [new PassThrough(), new PassThrough()];
    const context: CliContext = {
      ...{ stdin: Readable.from([]), stdout, stderr, env, colorDepth: 1, cwd, requestId: 'r-of-the-test' },
      onInterrupt: () => () => {},
    };
    expect(await runCommands(commands, ['ag', 'status', ...args], context)).toBe(1);
    stderr.end();
    return /No agent runs on (.*)\. \[server-unreachable\]/.exec(await text(stderr))?.[1];
  };
  const embedded = { BACKEND_DATA_DIR: join(cwd, 'embedded') };
  expect(await asked({})).toBe(join(cwd, 'configured'));
  expect(await asked(embedded)).toBe(join(cwd, 'embedded'));
  expect(await asked(embedded, '--config', 'configs/agent.toml')).toBe(join(cwd, 'configured'));
  expect(await asked(embedded, '--data-dir', 'named')).toBe(join(cwd, 'named'));
});
