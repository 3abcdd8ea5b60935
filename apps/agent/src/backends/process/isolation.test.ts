import { describe, expect, it } from 'vitest';
import { chooseSandbox, isolationReport, sandboxCandidates } from './isolation.ts';

const all = { bwrap: '/usr/bin/bwrap', unshare: '/usr/bin/unshare', setpriv: '/usr/bin/setpriv' };
const none = { bwrap: null, unshare: null, setpriv: null };

const careful = { asRoot: false, allowUnisolated: false };

describe('the choice of a sandbox', () => {
  it('tries the strongest first and gives kernels their own users as root', () => {
    expect(sandboxCandidates({ asRoot: true, tools: all })).toEqual([
      { sandbox: 'bubblewrap', ownUid: true },
      { sandbox: 'unshare', ownUid: true },
      { sandbox: 'none', ownUid: true },
    ]);
    expect(sandboxCandidates({ asRoot: false, tools: all }).every(({ ownUid }) => !ownUid)).toBe(true);
  });

  it('never runs programs as root, whatever is allowed', async () => {
    const nothing = sandboxCandidates({ asRoot: true, tools: { ...all, setpriv: null } });
    expect(nothing).toEqual([]);
    expect(sandboxCandidates({ asRoot: true, tools: all }).every(({ ownUid }) => ownUid)).toBe(true);
    await expect(
      chooseSandbox(nothing, { asRoot: true, allowUnisolated: true }, async () => true),
    ).rejects.toMatchObject({ code: 'isolation-unavailable', hint: expect.stringContaining('never run as root') });
  });

  it('goes on when a self-test fails, and refuses to end without isolation', async () => {
    const candidates = sandboxCandidates({ asRoot: false, tools: all });
    const works = async ({ sandbox }: { sandbox: string }) => sandbox !== 'bubblewrap';
    expect(await chooseSandbox(candidates, careful, works)).toMatchObject({ sandbox: 'unshare' });
    const nothing = sandboxCandidates({ asRoot: false, tools: none });
    await expect(chooseSandbox(nothing, careful, async () => true)).rejects.toMatchObject({
      code: 'isolation-unavailable',
    });
    expect(await chooseSandbox(nothing, { asRoot: false, allowUnisolated: true }, async () => true)).toEqual({
      sandbox: 'none',
      ownUid: false,
    });
  });

  it('reports no more than is reached', () => {
    const cgroups = { version: 2 as const, parents: { memory: '/m' } };
    expect(isolationReport({ sandbox: 'bubblewrap', ownUid: true }, cgroups)).toEqual({
      sandbox: 'bubblewrap',
      ownUid: true,
      memory: 'cgroup',
      processes: 'rlimit',
      cpu: 'none',
      network: 'host',
      egress: 'open',
    });
    expect(isolationReport({ sandbox: 'none', ownUid: false }, null)).toMatchObject({
      memory: 'watched',
      processes: 'none',
    });
  });
});
