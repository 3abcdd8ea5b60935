import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadConfig } from '@backend.ai/runtime';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { agentComponent } from '../apps/agent/src/commands/component.ts';
import { managerComponent } from '../apps/manager/src/commands/component.ts';
import { launcher, repository } from './support/command.ts';

const installed = '/opt/backend.ai';
const units = ['backend-ai-manager.service', 'backend-ai-agent.service'];
const textOf = (unit: string): string => readFileSync(join(repository, 'configs', 'systemd', unit), 'utf8');

/** The values of each directive. */
function directives(unit: string): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const line of textOf(unit).split('\n')) {
    const [, name, value] = /^([A-Z]\w*)=(.*)$/.exec(line) ?? [];
    if (name !== undefined && value !== undefined) found.set(name, [...(found.get(name) ?? []), value]);
  }
  return found;
}

/** Without a file and without an environment. */
const defaults = { env: {}, cwd: '/nowhere' };
const manager = loadConfig(managerComponent.configuration, defaults);
const agent = loadConfig(agentComponent.configuration, defaults);

describe('the unit of', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'units-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const known = spawnSync('systemd-analyze', ['--version']).status === 0;
  it.skipIf(!known).each(units)('%s is one that systemd accepts without a remark', (unit) => {
    // The program is not where it will be installed.
    const file = join(folder, unit);
    writeFileSync(file, textOf(unit).replace(/^ExecStart=\S+/m, `ExecStart=${launcher}`));
    const { status, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', file], { encoding: 'utf8' });
    expect([status, stderr]).toEqual([0, '']);
  });

  it.each([
    ['backend-ai-manager.service', 'mgr', 'manager', manager.values.manager.dataDir],
    ['backend-ai-agent.service', 'ag', 'agent', agent.values.agent.dataDir],
  ])(
    '%s runs a command that there is, and makes the folder in which it keeps its data',
    (unit, word, component, dataDir) => {
      const found = directives(unit);
      expect(found.get('ExecStart')).toEqual([
        `${installed}/backend.ai ${word} start-server --config /etc/backend.ai/${component}.toml`,
      ]);
      expect(`/var/lib/${found.get('StateDirectory')}`).toBe(dataDir);
      expect(found.get('Restart')).toEqual(['on-failure']);
    },
  );

  it.each(units)('%s holds no secret and no setting, only where they are', (unit) => {
    expect(directives(unit).get('Environment')).toEqual(['BACKEND_SKIP_BUILD=1']);
  });

  it('each component has more time to stop than it takes', () => {
    const stopMs = (unit: string): number => Number(directives(unit).get('TimeoutStopSec')) * 1000;
    expect(stopMs('backend-ai-manager.service')).toBeGreaterThan(managerComponent.stopDeadlineMs(manager));
    expect(stopMs('backend-ai-agent.service')).toBeGreaterThan(agentComponent.stopDeadlineMs(agent));
  });

  it('the agent leaves its kernels alone, gives them control groups and keeps nothing from them that they need', () => {
    const found = directives('backend-ai-agent.service');
    expect([found.get('KillMode'), found.get('Delegate')]).toEqual([['process'], ['yes']]);
    const names = [...found.keys()].filter((name) =>
      /^(Protect|Private|ReadOnly|Inaccessible|RestrictNamespaces|SystemCall|Memory)/.test(name),
    );
    expect(names).toEqual([]);
  });

  it('the manager is nobody in particular and may write in its own folder only', () => {
    const found = directives('backend-ai-manager.service');
    expect(found.get('User')).toEqual(['backend-ai']);
    expect(found.get('CapabilityBoundingSet')).toEqual(['']);
    expect(found.get('ProtectSystem')).toEqual(['strict']);
    expect(found.has('ReadWritePaths')).toBe(false);
  });
});
