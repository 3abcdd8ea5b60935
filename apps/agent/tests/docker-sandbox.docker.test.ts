import { waitFor } from '@backend.ai/testing';
import { describe, expect, it } from 'vitest';
import { kernelLabels, ownedBy } from '../src/backends/docker/labels.ts';
import { agentWorld, kernelSpec, runCode, startKernel, textOf } from './agent-world.ts';
import { derivedImage, docker, dockerOptions, sluggishEngine, testImages } from './docker-world.ts';

const images = await testImages();
const python = { image: images.python };
const shell = { image: images.shell };
const small = (mebibytes: number) => ({ cpu: '1', mem: String(mebibytes * 1024 ** 2) });
const container = async (kernelId: string) => {
  const [found] = await docker.listContainers({ filters: `{"label":["ai.backend.kernel-id=${kernelId}"]}` });
  return await docker.getContainer(found?.Id ?? '').inspect();
};

describe('a kernel in a container', () => {
  it('may nothing but what its user may, and sees nothing of the engine', async () => {
    const w = await agentWorld(dockerOptions);
    const { api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, python);
    const code = `
import json, os
def writes(path):
    try:
        open(path, 'w').close()
        return True
    except OSError:
        return False
print(json.dumps({
  'uid': os.getuid(), 'cwd': os.getcwd(), 'home': writes('x'), 'usr': writes('/usr/x'), 'passwd': writes('/etc/passwd'),
  'runner': writes('/opt/backend.ai/runner/x'), 'socket': os.path.exists('/var/run/docker.sock'),
  'status': dict(l.split()[:2] for l in open('/proc/self/status') if l.startswith(('CapEff', 'CapBnd', 'NoNewPrivs', 'Seccomp:'))),
  'user': os.popen('id -un').read().strip(), 'host': os.uname().nodename,
}))`;
    const seen = JSON.parse(textOf(await runCode(api, kernelId, code)));
    expect(seen).toMatchObject({
      ...{ cwd: '/home/work', home: true, usr: false, passwd: false, runner: false, socket: false },
      status: { 'CapEff:': '0000000000000000', 'CapBnd:': '0000000000000000', 'NoNewPrivs:': '1', 'Seccomp:': '2' },
      ...{ user: 'work', host: 'main1' },
    });
    expect(seen.uid).not.toBe(0);
    const { HostConfig } = await container(kernelId);
    expect(HostConfig.PortBindings ?? {}).toEqual({});
  });

  it('has files of its own above a root that nothing changes, where the agent wants that', async () => {
    const w = await agentWorld({ ...dockerOptions, docker: { ...dockerOptions.docker, readOnlyRoot: true } });
    const { api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, python);
    const code = `
import errno, json, os, subprocess, tempfile
def writing(path):
    try:
        open(path, 'w').close()
        return 'works'
    except OSError as error:
        return errno.errorcode[error.errno]
print(json.dumps({
  **{path: writing(path + '/x') for path in ('/home/work', '/tmp', '/dev/shm', '/var/tmp', '/run')},
  'temporary': tempfile.gettempdir(), 'program': subprocess.check_output(['sh', '-c', 'echo here > ~/y; cat ~/y'], text=True),
}))`;
    expect(JSON.parse(textOf(await runCode(api, kernelId, code)))).toMatchObject({
      ...{ '/home/work': 'works', '/tmp': 'works', '/dev/shm': 'works', '/var/tmp': 'EROFS' },
      ...{ temporary: '/tmp', program: 'here\n' },
    });
    const { kernelId: other } = await startKernel(w, api, { image: images.busybox });
    const tried = await runCode(
      api,
      other,
      'echo 1 > /tmp/x && echo 2 > ~/x && cat /tmp/x ~/x; echo 3 > /etc/x || echo no',
    );
    expect(textOf(tried)).toBe('1\n2\nno\n');
  });

  it('opens 2,000 files, and has the shared memory it asked for', async () => {
    const w = await agentWorld(dockerOptions);
    const { api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, { ...python, shmem: 16 * 1024 ** 2 });
    const code =
      "import os\nfiles = [open('/dev/null') for _ in range(2000)]\ns = os.statvfs('/dev/shm')\nprint(len(files), s.f_blocks * s.f_frsize)";
    expect(textOf(await runCode(api, kernelId, code))).toBe('2000 16777216\n');
  });

  it('is held by its control groups to the processors and the memory of its slots, without swap', async () => {
    const w = await agentWorld({ ...dockerOptions, slots: undefined });
    const { agent, api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, { ...shell, slots: small(192) });
    // Of either version of control groups.
    const exec = `cd /sys/fs/cgroup
if [ -e cpu.max ]; then cat cpu.max cpuset.cpus memory.max
else echo $(cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us); cat cpuset/cpuset.cpus memory/memory.limit_in_bytes; fi`;
    const seen = textOf(await runCode(api, kernelId, { mode: 'batch', options: { exec } }));
    const [core] = Object.keys(agent.status().heldDevices.cpu ?? {});
    expect(seen.trim().split('\n').slice(0, 3)).toEqual(['100000 100000', core, String(192 * 1024 ** 2)]);
    const { Memory, MemorySwap } = (await container(kernelId)).HostConfig;
    expect({ Memory, MemorySwap }).toEqual({ Memory: 192 * 1024 ** 2, MemorySwap: 192 * 1024 ** 2 });
  });

  it('has no dead processes in it for long: what its programs leave behind is reaped', async () => {
    const w = await agentWorld(dockerOptions);
    const { api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, { image: images.busybox });
    const exec = `
(sh -c 'until [ "$(cut -d" " -f4 /proc/$$/stat)" = 1 ]; do :; done; echo $$ > left' &)
until [ -s left ]; do :; done
timeout 10 sh -c 'while [ -e /proc/$(cat left) ]; do :; done' && echo reaped`;
    expect(textOf(await runCode(api, kernelId, { mode: 'batch', options: { exec } }))).toBe('reaped\n');
  });

  it('is told when a program needed too much memory, and goes on', async () => {
    const w = await agentWorld(dockerOptions);
    const { api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, { ...python, slots: small(192) });
    const exec = 'python3 -c "b = bytearray(1 << 30)"';
    const result = await runCode(api, kernelId, { mode: 'batch', options: { exec } });
    expect(result.notices.map(({ code }) => code)).toContain('out-of-memory');
    expect(textOf(await runCode(api, kernelId, 'print(1)'))).toBe('1\n');
  });

  it('cannot start more processes than it may', async () => {
    const w = await agentWorld({ ...dockerOptions, processLimit: 64 });
    const { api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, python);
    const code = `
import subprocess
started = []
try:
    for _ in range(200): started.append(subprocess.Popen(['sleep', '30']))
except OSError as error:
    print(error.errno)
for each in started: each.kill()
print(len(started) < 64)`;
    const result = await runCode(api, kernelId, code);
    expect(textOf(result)).toBe('11\nTrue\n');
    expect(result.notices.map(({ code: notice }) => notice)).toContain('process-limit-reached');
  });

  it('ends although its program does not want to', async () => {
    const w = await agentWorld(dockerOptions);
    const { api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, shell);
    const exec = "trap '' TERM INT; echo ready; while :; do sleep 1; done";
    const run = { kernelId, mode: 'batch' as const, runId: 'stubborn', options: { exec }, holdMs: 0 };
    await api.execute.mutate(run);
    await waitFor(async () => (await api.logs.query({ kernelId })).logs.includes('ready'));
    await api.destroyKernel.mutate({ kernelId, reason: 'user-requested' });
    expect(await w.gateway.waitForEvent(kernelId, 'kernel-terminated')).toMatchObject({ reason: 'user-requested' });
    await w.expectNoRemains(kernelId);
  });

  it('reaches the other kernels of its session by name, and nobody else', async () => {
    const w = await agentWorld(dockerOptions);
    const { api } = await w.startAgent();
    const hosts = [{ name: 'main1' }, { name: 'sub1' }];
    const cluster = (localRank: number) => ({ localRank, replicas: { main: 1, sub: 1 }, hosts });
    const main = await startKernel(w, api, { ...python, cluster: cluster(0) });
    const { sessionId } = main.spec;
    const sub = { ...shell, sessionId, hostname: 'sub1', clusterRole: 'sub' as const, cluster: cluster(1) };
    await startKernel(w, api, sub);
    const other = await startKernel(w, api, { ...python, hostname: 'other1' });
    const names = "import socket\nfor name in ['main1', 'sub1']: print(len(socket.gethostbyname(name)) > 0)";
    expect(textOf(await runCode(api, main.kernelId, names))).toBe('True\nTrue\n');
    const strange = await runCode(api, other.kernelId, "import socket; print(socket.gethostbyname('sub1'))");
    expect(textOf(strange, 'stderr') + textOf(strange)).toContain('gaierror');
  });

  it('tells of the services of its image before the ports of its user', async () => {
    const label = 'LABEL ai.backend.service-ports=board:http:8050\n';
    const image = await derivedImage(images.python, 'services', label);
    const w = await agentWorld(dockerOptions);
    const { api } = await w.startAgent();
    const { started } = await startKernel(w, api, { image, preopenPorts: [8080] });
    expect(started).toMatchObject({
      services: [
        { name: 'board', protocol: 'http', ports: [8050] },
        { name: '8080', protocol: 'preopen', ports: [8080] },
      ],
    });
  });

  it('has what goes through its network among its measurements', async () => {
    const w = await agentWorld(dockerOptions);
    const { agent, api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, shell);
    const measured = await waitFor(() => {
      const metrics = agent.status().measurements.find((each) => each.kernelId === kernelId)?.metrics;
      return metrics?.net_rx && metrics.net_tx ? metrics : undefined;
    });
    expect(measured).toMatchObject({ net_rx: { unit: 'bps' }, net_tx: { unit: 'bps' } });
  });

  it('is refused for a session on several machines', async () => {
    const w = await agentWorld(dockerOptions);
    const { api } = await w.startAgent();
    const hosts = [{ name: 'main1' }, { name: 'sub1', address: '192.0.2.1' }];
    const spec = kernelSpec({ ...python, cluster: { localRank: 0, replicas: { main: 1, sub: 1 }, hosts } });
    await expect(api.createKernel.mutate(spec)).rejects.toMatchObject({ code: 'unsupported-feature' });
  });

  it('does not start from an image that has nothing to run', async () => {
    const empty = await derivedImage('scratch', 'empty', 'LABEL ai.backend.kernelspec=1\n');
    const w = await agentWorld(dockerOptions);
    const { api } = await w.startAgent();
    const spec = kernelSpec({ image: empty });
    await api.createKernel.mutate(spec);
    const failed = await w.gateway.waitForEvent(spec.kernelId, 'kernel-start-failed');
    expect(failed).toMatchObject({ failedStep: 'create-container', error: { code: 'unsupported-feature' } });
    await w.expectNoRemains(spec.kernelId);
  });
});

describe('an agent and its engine', () => {
  it('goes on with its heartbeats while the engine hangs, and ends a kernel when it answers again', async () => {
    const engine = await sluggishEngine();
    const w = await agentWorld({ ...dockerOptions, docker: { ...dockerOptions.docker, socket: engine.path } });
    const { api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, shell);
    engine.hang();
    await api.destroyKernel.mutate({ kernelId, reason: 'user-requested', forced: true });
    const { length } = w.gateway.heartbeats;
    await waitFor(() => w.gateway.heartbeats.length > length + 5);
    expect(w.gateway.heartbeats.at(-1)?.kernels).toMatchObject([{ kernelId, state: 'terminating' }]);
    engine.recover();
    await w.gateway.waitForEvent(kernelId, 'kernel-terminated');
    await w.expectNoRemains(kernelId);
  });

  it('removes its own strays and those of nobody else, and only tells of them when that is asked', async () => {
    const [one, other] = [await agentWorld(dockerOptions), await agentWorld(dockerOptions)];
    const first = await one.startAgent({ strayGraceMs: 0 });
    const second = await other.startAgent({ strayGraceMs: 0 });
    const { kernelId } = await startKernel(other, second.api, shell);
    const { Config } = await container(kernelId);
    const installationId = Config.Labels['ai.backend.installation'] ?? '';
    const strayKernel = kernelSpec();
    const stray = await docker.createContainer({
      Image: shell.image,
      Labels: kernelLabels({ installationId, agentId: 'i-test' }, strayKernel),
      Cmd: ['true'],
    });
    expect(await first.agent.sweepStrays()).toEqual([]);
    const told = await second.agent.sweepStrays({ dryRun: true });
    expect(told).toMatchObject([{ name: expect.stringMatching(/^container /), due: true }]);
    expect((await stray.inspect()).Id).toBe(stray.id);
    await second.agent.sweepStrays();
    const left = await docker.listContainers({ all: true, filters: JSON.stringify(ownedBy(installationId)) });
    expect(left.map(({ Labels }) => Labels['ai.backend.kernel-id'])).toEqual([kernelId]);
  });

  it('leaves strays alone that may still be in the making', async () => {
    const w = await agentWorld(dockerOptions);
    const { agent, api } = await w.startAgent({ strayGraceMs: 3_600_000 });
    const { kernelId } = await startKernel(w, api, shell);
    const installationId = (await container(kernelId)).Config.Labels['ai.backend.installation'] ?? '';
    const strayKernel = kernelSpec();
    const stray = await docker.createContainer({
      Image: shell.image,
      Labels: kernelLabels({ installationId, agentId: 'i-test' }, strayKernel),
      Cmd: ['true'],
    });
    expect(await agent.sweepStrays()).toMatchObject([{ due: false }]);
    expect((await stray.inspect()).Id).toBe(stray.id);
    await stray.remove({ force: true });
  });
});
