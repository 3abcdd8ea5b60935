import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { tempDirectory } from '@backend.ai/testing';
import { expect, it, onTestFinished } from 'vitest';

const program = fileURLToPath(new URL('../src/dev.ts', import.meta.url));

async function dev(args: readonly string[]): Promise<{ code: number; stderr: string }> {
  const child = spawn(
    process.execPath,
    [
      '--import',
      'tsx',
      '--conditions=@backend.ai/source',
      program,
      '--data-dir',
      join(await tempDirectory(), 'data'),
      ...args,
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  const [stderr, [code]] = await Promise.all([text(child.stderr), once(child, 'exit')]);
  return { code, stderr };
}

it('a port in use is one clear error with the way out', async () => {
  const squatter = createServer().listen(0, '127.0.0.1');
  await once(squatter, 'listening');
  onTestFinished(() => void squatter.close());
  const { port } = squatter.address() as { port: number };
  const { code, stderr } = await dev(['--port', String(port)]);
  expect(code).toBe(1);
  expect(stderr).toMatch(
    new RegExp(`^Error: .*${port}.* \\[port-in-use\\]\\n.*npm run dev -- --port N.*\\n {2}request id: \\S+\\n$`),
  );
}, 60_000);

it('what it does not know is told in one sentence', async () => {
  for (const args of [
    ['--port', '99999'],
    ['--prot', '1'],
  ]) {
    const { code, stderr } = await dev(args);
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/^Error: .*\n {2}Usage: npm run dev -- .*\n {2}request id: \S+\n$/),
    ]);
  }
}, 60_000);
