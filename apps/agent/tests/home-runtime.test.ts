import { copyFileSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { makeTempDirectory } from '@backend.ai/testing';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { findInterpreters } from '../src/backends/process/runtimes.ts';
import { agentWorld, runCode, startKernel, textOf } from './agent-world.ts';
import { modes } from './modes.ts';

const sandboxes = modes.filter(({ isolated, useCgroups }) => isolated && useCgroups !== false);

describe.each(sandboxes)('Node.js in ~/.local/bin, with $name', ({ name: _, isolated: _isolated, ...mode }) => {
  it('runs, and shows nothing else of the home', async () => {
    // Kernels have a /tmp of their own: the home lies elsewhere, wherever the tests do.
    const { path: home, remove } = await makeTempDirectory(homedir());
    onTestFinished(remove);
    vi.stubEnv('HOME', home);
    onTestFinished(() => void vi.unstubAllEnvs());
    for (const folder of ['bin', 'lib/node_modules/npm/bin', 'share/keyrings', 'share/backend.ai/agent'])
      mkdirSync(join(home, '.local', folder), { recursive: true });
    const node = join(home, '.local/bin/node');
    copyFileSync(process.execPath, node);
    writeFileSync(join(home, '.local/lib/node_modules/npm/bin/npm-cli.js'), 'console.log("npm is here")');
    symlinkSync('../lib/node_modules/npm/bin/npm-cli.js', join(home, '.local/bin/npm'));
    const dataDir = join(home, '.local/share/backend.ai/agent');
    const found = await findInterpreters(join(home, '.local/bin'), dataDir);
    const w = await agentWorld({ ...mode, dataDir, runtimes: found.filter(({ path }) => path === node) });
    const { api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, { image: `local/node:${process.versions.node.split('.')[0]}` });
    const code = `
const { execFileSync } = require('node:child_process');
const { readdirSync } = require('node:fs');
const list = (folder) => readdirSync(${JSON.stringify(home)} + folder).sort();
console.log(JSON.stringify([process.execPath, list('/'), list('/.local'), list('/.local/bin'), list('/.local/lib'),
  execFileSync(process.execPath, [${JSON.stringify(join(home, '.local/bin/npm'))}]).toString()]));`;
    expect(JSON.parse(textOf(await runCode(api, kernelId, code)))).toEqual([
      node,
      ['.local'],
      ['bin', 'lib'],
      ['node', 'npm'],
      ['node_modules'],
      'npm is here\n',
    ]);
  }, 60_000);
});
