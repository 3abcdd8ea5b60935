import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import type { Transfer } from '@backend.ai/contract';
import { AppError, isErrorBody } from '@backend.ai/core';
import { connectDataPort, readHead } from '@backend.ai/rpc';
import { testCertificate, waitFor } from '@backend.ai/testing';
import { extract } from 'tar-stream';
import { expect, it, onTestFinished } from 'vitest';
import { agentWorld, codeOf, readAll, runCode, type StartedAgent, startKernel, textOf } from './agent-world.ts';

type Api = StartedAgent['api'];

async function open(api: Api, kernelId: string, transfer: Transfer) {
  return await connectDataPort(await api.openTransfer.mutate({ kernelId, transfer }));
}

async function upload(api: Api, kernelId: string, path: string, data: Buffer, size = data.length): Promise<void> {
  const { socket } = await open(api, kernelId, { kind: 'upload', path, size, mode: 0o640 });
  socket.write(data);
  socket.end();
  const reply = await readHead(socket);
  socket.destroy();
  if (isErrorBody(reply.error)) throw AppError.fromBody(reply.error);
  expect(reply.ok).toBe(true);
}

async function download(api: Api, kernelId: string, path: string): Promise<Buffer> {
  const { socket, size } = await open(api, kernelId, { kind: 'download', path });
  const data = await readAll(socket);
  expect(data.length).toBe(size);
  return data;
}

async function kernelWorld(tls?: typeof testCertificate) {
  const dataPort = { host: '127.0.0.1', port: 0, ...(tls ? { tls } : {}) };
  const w = await agentWorld({ allowUnisolated: true, dataPort });
  const { api, agent } = await w.startAgent();
  const { kernelId } = await startKernel(w, api);
  const folder = join(w.dataDir, 'scratch', kernelId);
  return { w, api, agent, kernelId, folder, home: join(folder, 'home') };
}

it('brings files in and out unchanged, owned by the kernel, with folders on the way', async () => {
  const { api, kernelId, home } = await kernelWorld();
  const data = randomBytes(3_000_000);
  await upload(api, kernelId, '/home/work/a/b/data.bin', data);
  await upload(api, kernelId, 'empty', Buffer.alloc(0));
  expect((await download(api, kernelId, 'a/b/data.bin')).equals(data)).toBe(true);
  expect(await download(api, kernelId, 'empty')).toHaveLength(0);
  expect(statSync(join(home, 'a/b/data.bin')).uid).toBe(statSync(home).uid);
  const code =
    'import os; s = os.stat("a/b/data.bin"); print(s.st_size, oct(s.st_mode), s.st_uid == os.getuid()); _ = open("a/b/new", "w")';
  expect(textOf(await runCode(api, kernelId, code))).toBe('3000000 0o100640 True\n');
  const listing = await api.listFiles.query({ kernelId, path: 'a/b' });
  expect(listing.abspath).toBe('/home/work/a/b');
  expect(listing.files.map(({ filename, mode, size }) => [filename, mode, size])).toEqual([
    ['data.bin', '-rw-r-----', 3_000_000],
    ['new', '-rw-r--r--', 0],
  ]);
});

it('leaves nothing of an upload that breaks off, is too long or has no place to go', async () => {
  const { api, kernelId, folder, home } = await kernelWorld();
  const staged = (): string[] => readdirSync(folder).filter((name) => name.startsWith('upload-'));
  expect(await codeOf(upload(api, kernelId, 'x/short', Buffer.from('abc'), 10))).toBe('invalid-input');
  expect(await codeOf(upload(api, kernelId, 'x/long', Buffer.from('abcdef'), 3))).toBe('invalid-input');
  const { socket } = await open(api, kernelId, { kind: 'upload', path: 'x/lost', size: 10, mode: 0o644 });
  socket.write('abc');
  await waitFor(() => staged().length === 1);
  socket.destroy();
  await waitFor(() => staged().length === 0);
  mkdirSync(join(home, 'folder'));
  expect(await codeOf(upload(api, kernelId, 'folder', Buffer.from('abc')))).toBe('invalid-path');
  writeFileSync(join(home, 'file'), '');
  expect(await codeOf(upload(api, kernelId, 'file/below', Buffer.from('abc')))).toBe('invalid-path');
  expect(readdirSync(home).sort()).toEqual(['file', 'folder']);
  expect(staged()).toEqual([]);
});

it('refuses every way out of the home folder', async () => {
  const { w, api, kernelId, home } = await kernelWorld();
  writeFileSync(join(w.dataDir, 'secret'), 'secret');
  symlinkSync(w.dataDir, join(home, 'out'));
  symlinkSync(join(w.dataDir, 'secret'), join(home, 'link'));
  symlinkSync('/etc', join(home, 'etc'));
  const paths = [
    '../../secret',
    'a/../../x',
    '/etc/passwd',
    '/home/workx/y',
    'out/secret',
    'link',
    'etc/passwd',
    '/home/work/../x',
  ];
  for (const path of paths) {
    expect([path, await codeOf(api.openTransfer.mutate({ kernelId, transfer: { kind: 'download', path } }))]).toEqual([
      path,
      'invalid-path',
    ]);
    if (path !== 'link')
      expect([path, await codeOf(upload(api, kernelId, path, Buffer.from('evil')))]).toEqual([path, 'invalid-path']);
    expect(await codeOf(api.listFiles.query({ kernelId, path }))).toBe('invalid-path');
  }
  // An upload takes the place of a link; it does not go through it.
  await upload(api, kernelId, 'link', Buffer.from('mine'));
  expect(readFileSync(join(w.dataDir, 'secret'), 'utf8')).toBe('secret');
  expect(readFileSync(join(home, 'link'), 'utf8')).toBe('mine');
});

it('is not fooled by folders that become links while they are used', async () => {
  const { w, api, kernelId, home } = await kernelWorld();
  mkdirSync(join(w.dataDir, 'outside'));
  writeFileSync(join(w.dataDir, 'outside', 'f'), 'secret');
  const swap = `
import os, threading
def swapper():
    while True:
        for kind in (lambda: os.mkdir('d'), lambda: os.symlink(${JSON.stringify(join(w.dataDir, 'outside'))}, 'd')):
            try:
                os.rmdir('d') if os.path.isdir('d') and not os.path.islink('d') else os.unlink('d')
            except OSError:
                try: os.unlink('d/f')
                except OSError: pass
            try: kind()
            except OSError: pass
threading.Thread(target=swapper, daemon=True).start()
print('swapping')`;
  await runCode(api, kernelId, swap);
  await waitFor(() => existsSync(join(home, 'd')));
  for (let i = 0; i < 100; i++) {
    await codeOf(upload(api, kernelId, 'd/f', Buffer.from('evil')));
    const read = await download(api, kernelId, 'd/f').catch(() => Buffer.alloc(0));
    expect(read.toString()).not.toBe('secret');
  }
  expect(readFileSync(join(w.dataDir, 'outside', 'f'), 'utf8')).toBe('secret');
  expect(readdirSync(join(w.dataDir, 'outside'))).toEqual(['f']);
});

it('does not wait for pipes and does not open devices or sockets', async () => {
  const { api, kernelId } = await kernelWorld();
  await runCode(
    api,
    kernelId,
    'import os, socket; os.mkfifo("fifo"); s = socket.socket(socket.AF_UNIX); s.bind("sock")',
  );
  for (const path of ['fifo', 'sock']) {
    const download = api.openTransfer.mutate({ kernelId, transfer: { kind: 'download', path } });
    expect(await codeOf(download)).toBe('invalid-path');
  }
  const { files } = await api.listFiles.query({ kernelId, path: '.' });
  expect(files.map(({ filename, mode }) => [filename, mode[0]])).toEqual([
    ['fifo', 'p'],
    ['sock', 's'],
  ]);
});

it('packs a folder into an archive, without what leads out of it', async () => {
  const { api, kernelId } = await kernelWorld();
  const make = `
import os
os.makedirs('p/q'); open('p/q/f', 'w').write('content'); open('p/empty', 'w')
os.symlink('q/f', 'p/inside'); os.symlink('/etc/passwd', 'p/outside'); os.symlink('../../x', 'p/up'); os.mkfifo('p/fifo')`;
  await runCode(api, kernelId, make);
  const { socket } = await open(api, kernelId, { kind: 'archive', path: 'p', maxBytes: 0 });
  const unpacked: Record<string, string> = {};
  const tar = extract();
  Readable.from([await readAll(socket)]).pipe(tar);
  for await (const entry of tar) {
    const chunks: Buffer[] = [];
    for await (const chunk of entry) chunks.push(chunk as Buffer);
    unpacked[entry.header.name] = entry.header.linkname ?? Buffer.concat(chunks).toString();
  }
  expect(unpacked).toEqual({ 'p/': '', 'p/empty': '', 'p/inside': 'q/f', 'p/q/': '', 'p/q/f': 'content' });
  expect(await codeOf(open(api, kernelId, { kind: 'archive', path: 'p', maxBytes: 1024 }))).toBe('payload-too-large');
  expect(await codeOf(open(api, kernelId, { kind: 'archive', path: 'nothing', maxBytes: 0 }))).toBe('file-not-found');
});

it('goes round no loop of links: not when it lists, brings in, brings out, packs or removes', async () => {
  const { w, api, kernelId, folder, home } = await kernelWorld();
  mkdirSync(join(home, 'd/e'), { recursive: true });
  writeFileSync(join(home, 'd/file'), 'content');
  const loops = { itself: 'itself', one: 'other', other: 'one', here: '.', 'd/up': '..', 'd/e/round': '../../d' };
  for (const [name, target] of Object.entries(loops)) symlinkSync(target, join(home, name));
  const { files } = await api.listFiles.query({ kernelId, path: '.' });
  expect(files.map(({ filename }) => filename).sort()).toEqual(['d', 'here', 'itself', 'one', 'other']);
  for (const path of ['itself', 'one/x', 'here/here/d/file', 'd/e/round/file', 'd/up/d/file']) {
    expect([path, await codeOf(download(api, kernelId, path))]).toEqual([path, 'invalid-path']);
    expect([path, await codeOf(api.listFiles.query({ kernelId, path }))]).toEqual([path, 'invalid-path']);
  }
  for (const path of ['one/x', 'here/x', 'd/e/round/x'])
    expect([path, await codeOf(upload(api, kernelId, path, Buffer.from('x')))]).toEqual([path, 'invalid-path']);
  // It takes the place of the link.
  await upload(api, kernelId, 'itself', Buffer.from('mine'));
  expect((await download(api, kernelId, 'itself')).toString()).toBe('mine');
  const { socket } = await open(api, kernelId, { kind: 'archive', path: '.', maxBytes: 0 });
  const contents: string[] = [];
  for await (const entry of socket.pipe(extract())) {
    if (entry.header.type === 'file') contents.push(entry.header.name);
    entry.resume();
  }
  expect(contents.sort()).toEqual(['d/file', 'itself']);
  await api.destroyKernel.mutate({ kernelId, reason: 'user-requested', forced: true });
  await w.gateway.waitForEvent(kernelId, 'kernel-terminated');
  await waitFor(() => !existsSync(folder), { what: 'its folder is gone' });
});

it('opens once with a ticket, and not without', async () => {
  const { api, agent, kernelId } = await kernelWorld();
  await upload(api, kernelId, 'f', Buffer.from('x'));
  const ticket = await api.openTransfer.mutate({ kernelId, transfer: { kind: 'download', path: 'f' } });
  const { address } = ticket;
  expect(address).toBe(agent.status().dataAddress);
  const { socket } = await connectDataPort(ticket);
  expect((await readAll(socket)).toString()).toBe('x');
  expect(await codeOf(connectDataPort(ticket))).toBe('forbidden');
  expect(await codeOf(connectDataPort({ address, ticket: 'guess' }))).toBe('forbidden');
  const [host, port] = address.split(':') as [string, string];
  const rude = connect({ host, port: Number(port) });
  rude.write('GET / HTTP/1.1\r\n\r\n');
  expect((await readHead(rude)).ok).toBe(false);
  rude.destroy();
  const endless = connect({ host, port: Number(port) });
  endless.write('x'.repeat(10_000));
  expect(await readHead(endless)).toMatchObject({ ok: false, error: { code: 'payload-too-large' } });
  endless.destroy();
});

it('reaches services of the kernel, and no port of anybody else', async () => {
  const { api, kernelId } = await kernelWorld();
  const serve = `
import os, socket, threading
def serve(s):
    s.listen()
    while True:
        c, _ = s.accept()
        while True:
            data = c.recv(65536)
            if not data: break
            c.sendall(data.upper())
        c.close()
tcp = socket.socket(); tcp.bind(('127.0.0.1', 0))
unix = socket.socket(socket.AF_UNIX); unix.bind(os.environ['BACKENDAI_SERVICE_DIR'] + '/echo.sock')
os.symlink('/var/run/docker.sock', os.environ['BACKENDAI_SERVICE_DIR'] + '/evil.sock')
for s in (tcp, unix): threading.Thread(target=serve, args=(s,), daemon=True).start()
print(tcp.getsockname()[1])`;
  const port = Number(textOf(await runCode(api, kernelId, serve)));
  for (const transfer of [{ kind: 'port', port } as const, { kind: 'service', service: 'echo' } as const]) {
    const { socket } = await open(api, kernelId, transfer);
    socket.end('hello');
    expect((await readAll(socket)).toString()).toBe('HELLO');
  }
  const foreign = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => foreign.once('listening', resolve));
  const foreignPort = (foreign.address() as { port: number }).port;
  expect(await codeOf(open(api, kernelId, { kind: 'port', port: foreignPort }))).toBe('state-conflict');
  foreign.close();
  expect(await codeOf(open(api, kernelId, { kind: 'service', service: 'evil' }))).toBe('state-conflict');
  expect(await codeOf(open(api, kernelId, { kind: 'service', service: 'nothing' }))).toBe('state-conflict');
});

it('carries the same over TLS, shows its ticket to the right certificate only, and never to one in the clear', async () => {
  const { api, kernelId } = await kernelWorld(testCertificate);
  const data = randomBytes(3_000_000);
  await upload(api, kernelId, 'data.bin', data);
  await upload(api, kernelId, 'empty', Buffer.alloc(0));
  expect((await download(api, kernelId, 'data.bin')).equals(data)).toBe(true);
  expect(await download(api, kernelId, 'empty')).toHaveLength(0);
  expect(await codeOf(upload(api, kernelId, 'short', Buffer.from('x'), 5))).toBe('invalid-input');
  expect(await codeOf(open(api, kernelId, { kind: 'download', path: 'absent' }))).toBe('file-not-found');
  const { socket } = await open(api, kernelId, { kind: 'archive', path: '.', maxBytes: 0 });
  const names: string[] = [];
  for await (const entry of socket.pipe(extract())) {
    names.push(entry.header.name);
    entry.resume();
  }
  expect(names.sort()).toEqual(['data.bin', 'empty']);

  const ticket = await api.openTransfer.mutate({ kernelId, transfer: { kind: 'download', path: 'data.bin' } });
  const another = ticket.certificate?.replace(/^../, (first) => (first === '00' ? '11' : '00')) ?? '';
  expect(await codeOf(connectDataPort({ ...ticket, certificate: another }))).toBe('peer-rejected');
  expect(await codeOf(connectDataPort({ ...ticket, certificate: undefined }))).toBe('agent-unreachable');
  expect(await codeOf(connectDataPort({ ...ticket, certificate: undefined, address: '192.0.2.1:1' }))).toBe(
    'peer-rejected',
  );
  const { socket: opened } = await connectDataPort(ticket);
  expect((await readAll(opened)).equals(data)).toBe(true);
});

it('says that a port which another process has is in use', async () => {
  const squatter = createServer();
  await new Promise<void>((resolve) => squatter.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void squatter.close());
  const { port } = squatter.address() as AddressInfo;
  const w = await agentWorld({ backend: 'fake', dataPort: { host: '127.0.0.1', port } });
  await expect(w.startAgent()).rejects.toMatchObject({
    code: 'port-in-use',
    message: `Port ${port} on 127.0.0.1 is in use.`,
    data: { port },
  });
});
