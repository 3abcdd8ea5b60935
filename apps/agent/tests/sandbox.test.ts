import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tempDirectory, waitFor } from '@backend.ai/testing';
import { describe, expect, it } from 'vitest';
import { agentWorld, codeOf, kernelSpec, runCode, startKernel, textOf } from './agent-world.ts';
import { modes } from './modes.ts';
import { remainsOf } from './remains.ts';

const asRoot = process.getuid?.() === 0;
const python = { image: 'local/python:3.11' };
const small = (mebibytes: number) => ({ cpu: '1', mem: String(mebibytes * 1024 ** 2) });

describe.each(modes)('a kernel in $name', ({ name: _, isolated, ...mode }) => {
  it('sees its own files, the system and nothing else of the machine', async () => {
    const w = await agentWorld(mode);
    mkdirSync(join(w.dataDir, 'keys'), { mode: 0o700 });
    writeFileSync(join(w.dataDir, 'keys', 'agent.pem'), 'secret', { mode: 0o600 });
    const { agent, api } = await w.startAgent();
    const [one, two] = await Promise.all([startKernel(w, api), startKernel(w, api)]);
    const otherHome = join(w.dataDir, 'scratch', two.kernelId, 'home');
    const code = `
import json, os
def reads(path):
    try:
        os.listdir(path) if os.path.isdir(path) else open(path).read()
        return True
    except OSError:
        return False
def writes(path):
    try:
        open(path, 'w').close()
        return True
    except OSError:
        return False
print(json.dumps({
  'keys': reads(${JSON.stringify(join(w.dataDir, 'keys', 'agent.pem'))}),
  'state': reads(${JSON.stringify(join(w.dataDir, 'agent.json'))}),
  'other': reads(${JSON.stringify(otherHome)}),
  'shadow': reads('/etc/shadow'), 'root': reads('/root'),
  'usr': writes('/usr/x'), 'etc': writes('/etc/x'), 'slash': writes('/x'), 'runner': writes('/opt/backend.ai/runner/x'),
  'home': writes('x'), 'tmp': writes(os.environ['TMPDIR'] + '/x'),
  'cwd': os.getcwd(), 'uid': os.getuid(), 'groups': os.getgroups(), 'pids': len([p for p in os.listdir('/proc') if p.isdigit()]),
  'status': [l.split()[1] for l in open('/proc/self/status') if l.startswith(('CapEff', 'CapBnd', 'NoNewPrivs'))],
  'sock': reads('/var/run/docker.sock'),
  'env': dict(os.environ),
}))`;
    const seen = JSON.parse(textOf(await runCode(api, one.kernelId, code)));
    const { isolation } = agent.status();
    if (isolated || asRoot)
      expect(seen).toMatchObject({ keys: false, other: false, shadow: false, usr: false, etc: false });
    if (isolation.ownUid) {
      expect(seen.uid).toBeGreaterThanOrEqual(700_000);
      expect(seen.groups).toEqual([]);
      expect(seen.status).toEqual(['0000000000000000', '0000000000000000', '1']);
    }
    expect(seen).toMatchObject({ home: true, tmp: true });
    if (isolated) {
      expect(seen).toMatchObject({ state: false, slash: false, runner: false, cwd: '/home/work', sock: false });
      expect(seen.pids).toBeLessThan(10);
    }
    expect(seen.env).toMatchObject({
      HOME: isolated ? '/home/work' : join(w.dataDir, 'scratch', one.kernelId, 'home'),
      BACKENDAI_KERNEL_ID: one.kernelId,
      BACKENDAI_SESSION_ID: one.spec.sessionId,
      BACKENDAI_SESSION_NAME: 'test',
    });
    expect(Object.keys(seen.env)).not.toContain('VITEST');
  });

  it('takes variables of any content, and none that reach the sandbox itself', async () => {
    const w = await agentWorld(mode);
    const { api } = await w.startAgent();
    const environ = {
      PLAIN: 'a b',
      QUOTES: `'"\`$(touch /tmp/pwned)\\n\\`,
      LINES: 'one\ntwo\n\n',
      home: '/nowhere',
      IFS: 'x',
      LD_PRELOAD: '/nonexistent/evil.so',
      HOME: '/root',
      UID: '0',
    };
    const { kernelId } = await startKernel(w, api, { ...python, environ });
    const code =
      'import json, os; print(json.dumps({k: os.environ.get(k) for k in ["PLAIN", "QUOTES", "LINES", "home", "IFS", "LD_PRELOAD"]}))';
    const { PLAIN, QUOTES, LINES, home, IFS, LD_PRELOAD } = environ;
    const lines = textOf(await runCode(api, kernelId, code))
      .trim()
      .split('\n');
    expect(JSON.parse(lines.at(-1) ?? '')).toEqual({ PLAIN, QUOTES, LINES, home, IFS, LD_PRELOAD });
  });

  it('ends its processes without a rest, though they fork as fast as they can', async () => {
    const w = await agentWorld({ ...mode, processLimit: 200 });
    const { agent, api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, { ...python, slots: small(1024) });
    const bomb = `
import os, time
open('ready', 'w').close()
for i in range(1000):
    try:
        if os.fork() == 0:
            os.setsid()
            os.environ.clear()
            time.sleep(600)
            os._exit(0)
    except OSError:
        time.sleep(0.002)
print('done')`;
    const limited = agent.status().isolation.processes !== 'none';
    const exec = `python3 -c "${bomb.replaceAll('"', '\\"')}"`;
    const running = api.execute.mutate({
      kernelId,
      mode: 'batch',
      runId: 'bomb',
      options: { exec },
      flushMs: 0,
      holdMs: 0,
    });
    await running;
    await waitFor(() => remainsOf(kernelId, w.dataDir).length > 30, { intervalMs: 50 });
    await api.destroyKernel.mutate({ kernelId, reason: 'user-requested', forced: true });
    await w.gateway.waitForEvent(kernelId, 'kernel-terminated');
    await w.expectNoRemains(kernelId);
    if (!limited) return;
    const second = await startKernel(w, api, { ...python, slots: small(1024) });
    const result = await runCode(api, second.kernelId, {
      mode: 'batch',
      options: { exec: 'i=0; while [ $i -lt 300 ]; do sleep 600 & i=$((i+1)); done; echo "all 300"' },
    });
    expect(textOf(result)).not.toContain('all 300');
    if (agent.status().isolation.processes === 'cgroup') {
      expect(result.notices.map(({ code }) => code)).toContain('process-limit-reached');
    }
  }, 60_000);

  it.each([
    ['', 'b"x" * (400 << 20)'],
    [' shared', 'mmap.mmap(-1, 400 << 20); [hog.write(b"x" * (1 << 20)) for _ in range(400)]'],
  ])(
    'keeps to its%s memory and says so',
    async (_kind, hog) => {
      const w = await agentWorld(mode);
      const { agent, api } = await w.startAgent();
      const { kernelId } = await startKernel(w, api, { ...python, slots: small(96) });
      const exec = `python3 -c 'import mmap, time; hog = ${hog}; time.sleep(30); print(len(hog))'`;
      const result = await runCode(api, kernelId, { mode: 'batch', options: { exec } });
      expect(result.status).toBe('finished');
      expect(result.exitCode).toBe(137);
      expect(textOf(result)).toBe('');
      expect(result.notices.map(({ code }) => code)).toContain('out-of-memory');
      if (agent.status().isolation.memory === 'watched') {
        expect(await w.gateway.waitForEvent(kernelId, 'kernel-terminated')).toMatchObject({ reason: 'out-of-memory' });
      }
    },
    60_000,
  );

  it('ends a run that takes too long, and the kernel with it', async () => {
    const w = await agentWorld(mode);
    const { api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, python);
    const first = await api.execute.mutate({
      kernelId,
      mode: 'query',
      code: 'print("before", flush=True)\nwhile True: pass',
      // Long enough for what is printed before.
      timeoutMs: 3_000,
      holdMs: 30_000,
      flushMs: 10_000,
    });
    expect(first).toMatchObject({ status: 'exec-timeout', exitCode: null });
    expect(first.console).toEqual([['stdout', 'before\n']]);
    expect(first.notices.map(({ code }) => code)).toEqual(['execution-timeout']);
    expect(await w.gateway.waitForEvent(kernelId, 'kernel-terminated')).toMatchObject({ reason: 'exec-timeout' });
    await w.expectNoRemains(kernelId);
  });

  it('resolves waiting readers when it ends, and answers those who come later', async () => {
    const w = await agentWorld(mode);
    const { api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, python);
    const run = { kernelId, runId: 'endless' } as const;
    await api.execute.mutate({ ...run, mode: 'query', code: 'while True: pass', holdMs: 0 });
    await api.execute.mutate({ kernelId, runId: 'other', mode: 'query', code: 'print(1)', holdMs: 0 });
    const waiting = api.execute.mutate({ ...run, mode: 'continue', holdMs: 30_000 });
    await api.destroyKernel.mutate({ kernelId, reason: 'user-requested', forced: true });
    expect(await waiting).toMatchObject({ status: 'finished', exitCode: 137 });
    await w.gateway.waitForEvent(kernelId, 'kernel-terminated');
    expect(await api.execute.mutate({ kernelId, runId: 'other', mode: 'continue' })).toMatchObject({
      status: 'finished',
      exitCode: 137,
    });
  });

  it('reports its end when its runner is killed', async () => {
    const w = await agentWorld(mode);
    const { api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, python);
    const result = await runCode(api, kernelId, 'import os\nwhile True: os.kill(os.getppid(), 9)');
    expect(result).toMatchObject({ status: 'finished' });
    expect(await w.gateway.waitForEvent(kernelId, 'kernel-terminated')).toMatchObject({ reason: 'self-terminated' });
    await w.expectNoRemains(kernelId);
  });
});

describe('the process backend', () => {
  it('refuses kernels of the simulated kind', async () => {
    const w = await agentWorld({ allowUnisolated: true });
    const { api } = await w.startAgent();
    expect(await codeOf(api.createKernel.mutate(kernelSpec({ fake: { exitCode: 1 } })))).toBe('unsupported-feature');
  });

  it('tells what happened to programs that exit, are killed, print too much or close their output', async () => {
    const w = await agentWorld({ allowUnisolated: true });
    const { api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, { ...python, slots: small(512) });
    const run = (exec: string) => runCode(api, kernelId, { mode: 'batch', options: { exec } });
    expect(await run('exit 3')).toMatchObject({ exitCode: 3, notices: [] });
    const killed = await run('kill -SEGV $$');
    expect(killed).toMatchObject({ exitCode: 139, notices: [{ code: 'program-killed', data: { signal: 'SIGSEGV' } }] });
    expect(await run('exec >&- 2>&-; exit 4')).toMatchObject({ exitCode: 4 });
    const flood = await run('head -c 100000000 /dev/zero | tr "\\0" "x"');
    expect(flood.notices.map(({ code }) => code)).toContain('output-limit-exceeded');
    expect(textOf(flood).length).toBeLessThanOrEqual(64 * 1024 ** 2);
  }, 60_000);

  it('does not start without isolation unless it may', async () => {
    const w = await agentWorld({ sandbox: 'none' });
    expect(await codeOf(w.startAgent())).toBe('isolation-unavailable');
  });

  it.runIf(asRoot)('runs no program as root where a user of its own cannot reach its files', async () => {
    const closed = await tempDirectory();
    const w = await agentWorld({ sandbox: 'none', allowUnisolated: true, dataDir: join(closed, 'agent') });
    await expect(w.startAgent()).rejects.toMatchObject({
      code: 'isolation-unavailable',
      hint: expect.stringContaining('never run as root'),
    });
    chmodSync(closed, 0o711);
    const { agent } = await w.startAgent();
    expect(agent.status().isolation).toMatchObject({ sandbox: 'none', ownUid: true });
  });

  it('takes over nothing of the environment of the agent', async () => {
    const w = await agentWorld({ allowUnisolated: true });
    const { api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, { image: 'local/node:20' });
    const names = JSON.parse(
      textOf(await runCode(api, kernelId, 'console.log(JSON.stringify(Object.keys(process.env)))')),
    );
    expect(names).toContain('BACKENDAI_KERNEL_ID');
    expect(names.filter((name: string) => name.startsWith('VITEST') || name === 'npm_config_user_agent')).toEqual([]);
    expect(readFileSync('/proc/self/environ', 'latin1')).toContain('PATH=');
  });
});
