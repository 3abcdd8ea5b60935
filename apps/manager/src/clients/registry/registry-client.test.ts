import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { systemClock } from '@backend.ai/core';
import { describe, expect, it, onTestFinished } from 'vitest';
import { parseChallenge } from './challenge.ts';
import { RegistryClient } from './registry-client.ts';
import { RegistryHttp } from './registry-http.ts';

type Answer = { status?: number; headers?: Record<string, string>; body?: unknown };
type Handler = (request: { path: string; authorization: string | undefined; method: string }) => Answer | 'hang';

/** A registry that says what the test wants. */
async function registry(handler: Handler) {
  const asked: string[] = [];
  const server = http.createServer((request, response) => {
    const path = request.url ?? '';
    asked.push(path);
    const answer = handler({ path, authorization: request.headers.authorization, method: request.method ?? '' });
    if (answer === 'hang') return;
    const body = typeof answer.body === 'string' ? answer.body : JSON.stringify(answer.body ?? {});
    response.writeHead(answer.status ?? 200, answer.headers).end(body);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const client = (timeoutMs = 5_000, signal = new AbortController().signal) => {
    const transport = new RegistryHttp({ clock: systemClock, timeoutMs });
    onTestFinished(() => transport.close());
    return new RegistryClient({ url, http: transport, signal, credentials: { username: 'u', password: 'p' } });
  };
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url, asked, client };
}

const basic = `Basic ${Buffer.from('u:p').toString('base64')}`;

describe('the client of registries', () => {
  it('asks for a token for each scope once, with its password', async () => {
    const { url, asked, client } = await registry(({ path, authorization }) => {
      const target = new URL(path, 'http://x');
      if (target.pathname === '/token') {
        if (authorization !== basic) return { status: 401 };
        return { body: { token: `for ${target.searchParams.get('service')} ${target.searchParams.get('scope')}` } };
      }
      const scope = `repository:${path.split('/').slice(2, -2).join('/')}:pull`;
      if (authorization === `Bearer for registry.test ${scope}`) return { body: { name: 'x', tags: ['1'] } };
      const challenge = `Bearer realm="${url}/token",service="registry.test",scope="${scope}"`;
      return { status: 401, headers: { 'www-authenticate': challenge } };
    });
    const own = client();
    expect(await own.tags('a/b')).toEqual(['1']);
    expect(await own.tags('a/b')).toEqual(['1']);
    expect(await own.tags('c')).toEqual(['1']);
    expect(asked.filter((path) => path.startsWith('/token'))).toHaveLength(2);
  });

  it('follows pages on the same registry only, and leaves out what are no names', async () => {
    const { client, asked } = await registry(({ path }) => {
      if (!path.includes('last=')) {
        return { body: { repositories: ['a', 'B!', '../up'] }, headers: { link: '</v2/_catalog?last=a>; rel="next"' } };
      }
      return { body: { repositories: ['b/c'] }, headers: { link: '<http://elsewhere.test/v2/_catalog>; rel="next"' } };
    });
    expect(await client().repositories()).toEqual(['a', 'b/c']);
    expect(asked).toHaveLength(2);
  });

  it('does not go in circles', async () => {
    const { client } = await registry(() => ({
      body: { tags: [] },
      headers: { link: '</v2/a/tags/list?n=200>; rel=next' },
    }));
    await expect(client().tags('a')).rejects.toMatchObject({ code: 'registry-answer-invalid' });
  });

  it.each([
    [{ status: 403 }, 'registry-denied'],
    [{ status: 404 }, 'image-not-found'],
    [{ status: 429 }, 'registry-unreachable'],
    [{ status: 502 }, 'registry-unreachable'],
    [{ status: 418 }, 'registry-answer-invalid'],
    [{ body: '<html>' }, 'registry-answer-invalid'],
    [{ body: { tags: 'many' } }, 'registry-answer-invalid'],
    [{ body: `"${'x'.repeat(9 * 1024 * 1024)}"` }, 'registry-answer-invalid'],
    [{ status: 401, headers: { 'www-authenticate': 'Basic realm="x"' } }, 'registry-denied'],
    [{ status: 401, headers: { 'www-authenticate': 'Bearer realm="file:///etc/passwd"' } }, 'registry-answer-invalid'],
  ] satisfies [Answer, string][])('%# tells what is wrong by a code', async (answer, code) => {
    const { client } = await registry(() => answer);
    await expect(client().tags('a')).rejects.toMatchObject({ code });
  });

  it('gives up on one that is silent, and when nobody waits any more', async () => {
    const { client, asked } = await registry(() => 'hang');
    await expect(client(50).ping()).rejects.toMatchObject({ code: 'registry-unreachable' });
    const leaving = new AbortController();
    const left = client(60_000, leaving.signal).ping();
    left.catch(() => {});
    leaving.abort();
    await expect(left).rejects.toMatchObject({ code: 'cancelled' });
    expect(asked.length).toBeGreaterThan(0);
  });

  it('does not take its password along to where blobs really lie', async () => {
    const elsewhere = await registry(({ authorization }) => ({ body: { authorization: authorization ?? null } }));
    const { client } = await registry(
      ({ authorization }): Answer =>
        authorization === basic
          ? { status: 307, headers: { location: `${elsewhere.url}/blob?signature=1` } }
          : { status: 401, headers: { 'www-authenticate': 'Basic realm="x"' } },
    );
    expect(await client().jsonBlob('a', `sha256:${'0'.repeat(64)}`)).toEqual({ authorization: null });
  });
});

describe('what registries want', () => {
  it.each([
    [undefined, undefined],
    ['Basic realm="registry"', { scheme: 'basic' }],
    ['Negotiate', undefined],
    [
      'Bearer realm="https://auth.test/token",service="r",scope="repository:a:pull,push"',
      { scheme: 'bearer', realm: 'https://auth.test/token', service: 'r', scope: 'repository:a:pull,push' },
    ],
    [
      'Basic realm="x", bearer realm=https://a.test',
      { scheme: 'bearer', realm: 'https://a.test', service: undefined, scope: undefined },
    ],
  ])('%s', (header, challenge) => {
    expect(parseChallenge(header)).toEqual(challenge);
  });
});
