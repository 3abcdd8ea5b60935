import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { root } from '../boundaries.ts';
import { freePort } from './ports.ts';

const count = 400;

/** What another process is given, which ends with it. */
async function portsOfAnotherProcess(): Promise<number[]> {
  const ports = JSON.stringify(join(root, 'scripts/dev-servers/ports.ts'));
  const body = `
    import { freePort } from ${ports};
    const all = [];
    for (let nth = 0; nth < ${count}; nth++) all.push(await freePort());
    console.log(JSON.stringify(all));`;
  const argv = ['--import', 'tsx', '--conditions=@backend.ai/source', '--input-type=module', '-e', body];
  const { stdout } = await promisify(execFile)(process.execPath, argv, { cwd: root });
  return JSON.parse(stdout);
}

// By chance alone some of so many would be the same, 999 times out of 1,000.
it.runIf(process.platform === 'linux')(
  'a free port is given to nobody else, in no process, as long as its own process lives',
  async () => {
    const ours = await Promise.all(Array.from({ length: count }, freePort));
    const all = [...ours, ...(await portsOfAnotherProcess())];
    expect(new Set(all).size).toBe(2 * count);
  },
);
