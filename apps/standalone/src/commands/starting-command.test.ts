import { PassThrough, Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { runCommands } from '@backend.ai/cli-kit';
import { expect, it } from 'vitest';
import { UpCommand } from './up.ts';

it.each(['99999', 'x', '-1'])('a port that is none is wrong usage: %s', async (port) => {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const code = await runCommands([UpCommand], ['up', `--port=${port}`, '--data-dir', '/proc/nowhere'], {
    ...{ stdin: Readable.from([]), stdout, stderr, env: {}, colorDepth: 1, cwd: '/', requestId: 'r-of-the-test' },
    onInterrupt: () => () => {},
  });
  stdout.end();
  stderr.end();
  expect([code, (await text(stdout)) + (await text(stderr))]).toEqual([
    2,
    expect.stringContaining(`--port takes a number from 0 to 65535, not "${port}".`),
  ]);
});
