import { describe, expect, it } from 'vitest';
import { agentWorld, kernelSpec, runCode, startKernel, textOf } from './agent-world.ts';
import { modes } from './modes.ts';

const shell = { image: 'local/shell' };
const sshKeyPair = { publicKey: 'ssh-ed25519 AAAA work@cluster', privateKey: '-----BEGIN KEY-----\nsecret\n' };

function clusterOf(...hosts: Array<{ name: string; address?: string }>) {
  return { localRank: 0, replicas: { main: 1, sub: hosts.length - 1 }, hosts };
}

describe.each(modes)('a kernel of a cluster, with $name', ({ name: _, isolated, ...mode }) => {
  it('knows its place', async () => {
    const w = await agentWorld(mode);
    const { api } = await w.startAgent();
    const cluster = { ...clusterOf({ name: 'main1' }, { name: 'sub1' }), localRank: 1 };
    const { kernelId } = await startKernel(w, api, {
      ...shell,
      ...{ clusterRole: 'sub', hostname: 'sub1', cluster, preopenPorts: [8000, 8001] },
    });
    const names = ['SIZE', 'REPLICAS', 'HOSTS', 'HOST', 'ROLE', 'IDX', 'LOCAL_RANK'];
    const command = `echo ${names.map((name) => `$BACKENDAI_CLUSTER_${name}`).join(' ')} $BACKENDAI_PREOPEN_PORTS`;
    expect(textOf(await runCode(api, kernelId, command))).toBe('2 main:1,sub:1 main1,sub1 sub1 sub 1 1 8000,8001\n');
  });

  it('says who its user is', async () => {
    const w = await agentWorld(mode);
    const { api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, shell);
    const command = '[ "$(id -u):$(id -g)" = "$LOCAL_USER_ID:$LOCAL_GROUP_ID" ] && echo same';
    expect(textOf(await runCode(api, kernelId, command))).toBe('same\n');
  });

  it('is a cluster of one without others', async () => {
    const w = await agentWorld(mode);
    const { api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, shell);
    const command = 'echo $BACKENDAI_CLUSTER_SIZE $BACKENDAI_CLUSTER_REPLICAS $BACKENDAI_CLUSTER_HOSTS';
    expect(textOf(await runCode(api, kernelId, command))).toBe('1 main:1 main1\n');
  });

  it.runIf(isolated)('finds the others by name, on this machine and on others', async () => {
    const w = await agentWorld(mode);
    const { api } = await w.startAgent();
    const cluster = clusterOf({ name: 'main1' }, { name: 'sub1' }, { name: 'sub2', address: '192.0.2.7' });
    const { kernelId } = await startKernel(w, api, { cluster });
    const code = 'import socket\nfor name in ("main1", "sub1", "sub2"): print(socket.gethostbyname(name))';
    expect(textOf(await runCode(api, kernelId, code))).toBe('127.0.0.1\n127.0.0.1\n192.0.2.7\n');
  });

  it.runIf(isolated)('talks to another on the same machine by its name', async () => {
    const w = await agentWorld(mode);
    const { api } = await w.startAgent();
    const cluster = clusterOf({ name: 'main1' }, { name: 'sub1' });
    const main = await startKernel(w, api, { cluster });
    const sub = await startKernel(w, api, {
      ...{ sessionId: main.spec.sessionId, clusterRole: 'sub', hostname: 'sub1' },
      cluster: { ...cluster, localRank: 1 },
    });
    const listen = 'import socket\ns = socket.create_server(("sub1", 0))\nprint(s.getsockname()[1])';
    const port = textOf(await runCode(api, sub.kernelId, listen)).trim();
    const ask = `import socket\nwith socket.create_connection(("sub1", ${port})) as c: print(c.recv(9).decode())`;
    const asking = runCode(api, main.kernelId, ask);
    await runCode(
      api,
      sub.kernelId,
      'import platform\nc, _ = s.accept()\nc.sendall(platform.node().encode()); c.close()',
    );
    expect(textOf(await asking)).toBe('sub1\n');
  });

  it('has the key pair of its cluster, which only it can read and not change', async () => {
    const w = await agentWorld(mode);
    const { api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, { ...shell, sshKeyPair });
    const at = isolated ? '/home/config/ssh' : '$BACKENDAI_CONFIG_DIR/ssh';
    const command = `cd ${at} && stat -c '%a %n' id_cluster id_cluster.pub && cat id_cluster.pub id_cluster`;
    const { publicKey, privateKey } = sshKeyPair;
    expect(textOf(await runCode(api, kernelId, command))).toBe(
      `600 id_cluster\n644 id_cluster.pub\n${publicKey}\n${privateKey}`,
    );
    if (!isolated) return;
    const change = `(: > ${at}/id_cluster) 2>/dev/null || echo refused`;
    expect(textOf(await runCode(api, kernelId, change))).toBe('refused\n');
  });

  it('begins with the dotfiles of its user', async () => {
    const w = await agentWorld(mode);
    const { api } = await w.startAgent();
    const dotfiles = [
      { path: '.vimrc', mode: '644', content: 'set number\n' },
      { path: '/home/work/.config/tool/token', mode: '600', content: 'grün' },
    ];
    const { kernelId } = await startKernel(w, api, { ...shell, dotfiles });
    const command =
      'stat -c "%a %s" .vimrc .config/tool/token; cat .vimrc .config/tool/token; echo x >> .vimrc && echo mine';
    expect(textOf(await runCode(api, kernelId, command))).toBe('644 11\n600 5\nset number\ngrünmine\n');
  });
});

describe('a kernel that cannot be furnished', () => {
  it.each(['../outside', '/etc/passwd', '/home/work/../../x', '.', 'a/../../b'])(
    'is not started with a dotfile at %s',
    async (path) => {
      const w = await agentWorld();
      const { api } = await w.startAgent();
      const spec = kernelSpec({ ...shell, dotfiles: [{ path, mode: '644', content: 'x' }] });
      await api.createKernel.mutate(spec);
      expect(await w.gateway.waitForEvent(spec.kernelId, 'kernel-start-failed')).toMatchObject({
        failedStep: 'furnish-home',
        error: { code: 'invalid-path' },
      });
      await w.expectNoRemains(spec.kernelId);
    },
  );

  it('is not started when the machine of another kernel has no address', async () => {
    const w = await agentWorld();
    const { api } = await w.startAgent();
    const cluster = clusterOf({ name: 'main1' }, { name: 'sub1', address: 'no-such-machine.invalid' });
    const spec = kernelSpec({ ...shell, cluster });
    await api.createKernel.mutate(spec);
    expect(await w.gateway.waitForEvent(spec.kernelId, 'kernel-start-failed')).toMatchObject({
      failedStep: 'furnish-home',
      error: { code: 'kernel-start-failed', data: { host: 'no-such-machine.invalid' } },
    });
  });
});

describe('a bootstrap script', () => {
  it('that does not end in time ends the start, with what it wrote', async () => {
    const w = await agentWorld();
    const { api } = await w.startAgent();
    const spec = kernelSpec({ bootstrap: { script: 'echo waiting; sleep 600', timeoutMs: 3_000 } });
    await api.createKernel.mutate(spec);
    const failed = await w.gateway.waitForEvent(spec.kernelId, 'kernel-start-failed');
    expect(failed).toMatchObject({ failedStep: 'bootstrap', error: { data: { exitCode: null } }, log: 'waiting\n' });
    await w.expectNoRemains(spec.kernelId);
  });

  it('under way does not keep a kernel from being ended', async () => {
    const w = await agentWorld();
    const { api } = await w.startAgent();
    const spec = kernelSpec({ bootstrap: { script: 'sleep 60', timeoutMs: 60_000 } });
    await api.createKernel.mutate(spec);
    await w.gateway.waitForEvent(spec.kernelId, 'kernel-creating');
    await api.destroyKernel.mutate({ kernelId: spec.kernelId, reason: 'user-requested' });
    expect(await w.gateway.waitForEvent(spec.kernelId, 'kernel-terminated')).toMatchObject({
      reason: 'user-requested',
    });
    await w.expectNoRemains(spec.kernelId);
  });
});
