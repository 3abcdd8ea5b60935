import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
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

/** What the program says as the default of a setting. */
function defaultOf(word: 'mgr' | 'ag', key: string): string | number {
  const env = { ...process.env, BACKEND_SKIP_BUILD: '1' };
  const sample = join(repository, 'configs', `${word === 'mgr' ? 'manager' : 'agent'}.sample.toml`);
  const shown = execFileSync(launcher, [word, 'config', 'show', '--json', '--config', sample], { env });
  const { settings } = JSON.parse(String(shown)) as { settings: Array<{ key: string; value: string | number }> };
  return settings.find((setting) => setting.key === key)?.value ?? '';
}

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
    ['backend-ai-manager.service', 'mgr', 'manager'],
    ['backend-ai-agent.service', 'ag', 'agent'],
  ] as const)(
    '%s runs a command that there is, and makes the folder in which it keeps its data',
    (unit, word, component) => {
      const found = directives(unit);
      expect(found.get('ExecStart')).toEqual([
        `${installed}/backend.ai ${word} start-server --config /etc/backend.ai/${component}.toml`,
      ]);
      expect(`/var/lib/${found.get('StateDirectory')}`).toBe(defaultOf(word, `${component}.data-dir`));
      expect(found.get('Restart')).toEqual(['on-failure']);
    },
  );

  it.each(units)('%s holds no secret and no setting, only where they are', (unit) => {
    expect(directives(unit).get('Environment')).toEqual(['BACKEND_SKIP_BUILD=1']);
  });

  it('each component has more time to stop than it takes', () => {
    const seconds = (unit: string): number => Number(directives(unit).get('TimeoutStopSec'));
    expect(seconds('backend-ai-manager.service')).toBeGreaterThan(
      Number(defaultOf('mgr', 'manager.stop-deadline-ms')) / 1000,
    );
    const [, agentMs] =
      /stopDeadlineMs = ([\d_]+)/.exec(readFileSync(join(repository, 'apps/agent/src/server.ts'), 'utf8')) ?? [];
    expect(seconds('backend-ai-agent.service')).toBeGreaterThan(Number(agentMs?.replace('_', '')) / 1000);
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
