import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { processTree } from '../../../scripts/dev-servers/processes.ts';
import { tempDirectory, waitFor } from '../src/index.ts';

const script = join(import.meta.dirname, '../../../scripts/with-engine.sh');
const canStart = process.getuid!() === 0 && spawnSync('dockerd', ['--version']).status === 0;

const asks = `
  require('node:http').get({ socketPath: process.env.DOCKER_HOST.slice('unix://'.length), path: '/info' }, async (answer) => {
    let text = '';
    for await (const chunk of answer) text += chunk;
    console.log(JSON.parse(text).DockerRootDir);
    if (process.argv[1] === 'stay') setInterval(() => {}, 1000); else process.exit(7);
  });`;

describe.skipIf(!canStart)('an engine of its own', () => {
  it('is what the command finds, whose exit code is passed on, and leaves nothing behind', async () => {
    const folder = join(await tempDirectory(), 'engine');
    const { status, stdout } = spawnSync(script, [folder, process.execPath, '-e', asks], { encoding: 'utf8' });
    expect({ status, stdout: stdout.trim() }).toEqual({ status: 7, stdout: join(folder, 'data') });
    expect(existsSync(folder)).toBe(false);
    expect(readFileSync('/proc/mounts', 'utf8')).not.toContain(folder);
  });

  it('ends with all of its processes when the script is killed', async () => {
    const folder = join(await tempDirectory(), 'engine');
    const child = spawn(script, [folder, process.execPath, '-e', asks, 'stay'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    onTestFinished(() => void child.kill('SIGKILL'));
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    await waitFor(() => said.includes(folder), { what: 'the engine' });
    const tree = await processTree(child.pid!);
    expect(tree.length).toBeGreaterThan(3);
    child.kill('SIGKILL');
    const alive = (): number[] => tree.filter((pid) => isRunning(pid));
    await waitFor(() => alive().length === 0, { what: 'the end of all processes' });
    expect(readFileSync('/proc/mounts', 'utf8')).not.toContain(folder);
  });
});

/** One that has ended and waits to be asked for its exit code does not count. */
function isRunning(pid: number): boolean {
  try {
    return !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
