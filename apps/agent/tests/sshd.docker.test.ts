import { execFile, execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { pipeline } from 'node:stream';
import { promisify } from 'node:util';
import { connectDataPort } from '@backend.ai/rpc';
import { tempDirectory } from '@backend.ai/testing';
import { describe, expect, it, onTestFinished } from 'vitest';
import { agentWorld, runCode, type StartedAgent, startKernel, textOf } from './agent-world.ts';
import { dockerOptions, testImages } from './docker-world.ts';

const images = await testImages();
const debian = { image: images.debian };
const python = { image: images.python };

/** A port of this machine whose connections go to a port of the kernel, as `app --bind` makes one. */
async function bind(api: StartedAgent['api'], kernelId: string, port: number): Promise<number> {
  const server = createServer((socket) => {
    void (async () => {
      const ticket = await api.openTransfer.mutate({ kernelId, transfer: { kind: 'port', port } });
      const { socket: inner } = await connectDataPort(ticket);
      pipeline(socket, inner, socket, () => {});
    })();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

async function keyPair(): Promise<{ readonly file: string; readonly publicKey: string }> {
  const file = join(await tempDirectory(), 'id');
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file]);
  return { file, publicKey: readFileSync(`${file}.pub`, 'utf8').trim() };
}

/** What OpenSSH's client prints: it knows no host, and asks nothing. */
async function ssh(port: number, key: string, command: string): Promise<string> {
  const options = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'BatchMode=yes', 'IdentitiesOnly=yes'];
  const { stdout } = await promisify(execFile)('ssh', [
    ...['-F', 'none', '-q', '-p', String(port), '-i', key, ...options.flatMap((option) => ['-o', option])],
    ...['work@127.0.0.1', command],
  ]);
  return stdout;
}

describe('the service sshd', () => {
  it('lets in who has a key that was given at its start, as the user of the kernel and with its variables', async () => {
    const w = await agentWorld(dockerOptions);
    const { api } = await w.startAgent();
    const environ = { GREETING: 'two words', TRICKY: 'a"b' };
    const { kernelId, started } = await startKernel(w, api, { ...debian, environ });
    expect(started).toMatchObject({ services: [{ name: 'sshd', protocol: 'tcp', ports: [2200] }] });
    const [own, other] = [await keyPair(), await keyPair()];
    const envs = { AUTHORIZED_KEYS: own.publicKey };
    const start = { kernelId, service: 'sshd', envs, arguments: {} };
    expect(await api.startService.mutate(start)).toEqual({ status: 'started', ports: [2200] });
    expect(await api.startService.mutate(start)).toEqual({ status: 'running', ports: [2200] });
    const port = await bind(api, kernelId, 2200);
    const seen = await ssh(port, own.file, 'id -un; pwd; echo "$BACKENDAI_KERNEL_ID $GREETING"');
    expect(seen).toBe(`work\n/home/work\n${kernelId} two words\n`);
    await expect(ssh(port, other.file, 'id')).rejects.toMatchObject({ code: 255 });
  });

  it('takes the keys of the home folder and of the cluster, and no password', async () => {
    const w = await agentWorld(dockerOptions);
    const { api } = await w.startAgent();
    const [own, cluster] = [await keyPair(), await keyPair()];
    const sshKeyPair = { publicKey: cluster.publicKey, privateKey: readFileSync(cluster.file, 'utf8') };
    const { kernelId } = await startKernel(w, api, { ...debian, sshKeyPair });
    const place = `mkdir -m 700 ~/.ssh; echo '${own.publicKey}' > ~/.ssh/authorized_keys; echo ok`;
    expect(textOf(await runCode(api, kernelId, place))).toBe('ok\n');
    await api.startService.mutate({ kernelId, service: 'sshd', envs: {}, arguments: {} });
    const port = await bind(api, kernelId, 2200);
    expect(await ssh(port, own.file, 'echo home')).toBe('home\n');
    expect(await ssh(port, cluster.file, 'echo cluster')).toBe('cluster\n');
    const fromInside =
      'ssh -F none -q -p 2200 -o StrictHostKeyChecking=no -i /home/config/ssh/id_cluster main1 hostname';
    expect(textOf(await runCode(api, kernelId, fromInside))).toBe('main1\n');
    const offered = 'ssh -F none -p 2200 -o StrictHostKeyChecking=no -o PreferredAuthentications=none main1 2>&1';
    expect(textOf(await runCode(api, kernelId, offered))).toMatch(/Permission denied \(publickey\)/);
  });

  it('is none of the services of an image without an ssh server', async () => {
    const w = await agentWorld(dockerOptions);
    const { api } = await w.startAgent();
    const { started } = await startKernel(w, api, python);
    expect(started).not.toHaveProperty('services');
  });
});
