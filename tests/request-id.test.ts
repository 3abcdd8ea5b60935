import { waitFor } from '@backend.ai/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestCluster } from './support/cluster.ts';
import { signedRequest } from './support/signed-request.ts';

let cluster: TestCluster;
beforeAll(async () => {
  cluster = await TestCluster.start();
});
afterAll(() => cluster.stop());

test('one id goes from the request through manager, agent, events and rows, and back', async () => {
  const id = 'trace-me:create.1';
  const created = await signedRequest(cluster.credentials, 'POST', '/session', {
    headers: { 'X-Request-ID': id },
    body: { name: 'traced', image: 'shell', config: { resources: { cpu: '1', mem: '64m' } } },
  });
  expect(created).toMatchObject({ status: 201, body: { status: 'RUNNING' } });
  expect(created.headers['x-backend-request-id']).toBe(id);

  const info = await cluster.json<{ session: { requestId: string } }>(['session', 'info', 'traced']);
  expect(info.session.requestId).toBe(id);
  const { history } = await cluster.json<{ history: Array<{ to: string; requestId: string }> }>([
    'session',
    'history',
    'traced',
  ]);
  expect(history.map((entry) => entry.to)).toEqual(
    expect.arrayContaining(['PENDING', 'SCHEDULED', 'RUNNING']) as string[],
  );
  expect(new Set(history.map((entry) => entry.requestId))).toEqual(new Set([id]));
  await waitFor(() => {
    const components = new Set(
      cluster
        .logs()
        .filter((record) => record.request_id === id)
        .map((record) => record.component),
    );
    return components.has('manager') && components.has('agent');
  });

  const destroyed = await signedRequest(cluster.credentials, 'DELETE', '/session/traced', {
    headers: { 'X-Request-ID': 'trace-me:end' },
  });
  expect(destroyed.status).toBe(200);
});

test('an invalid id is replaced, and that is logged', async () => {
  const answer = await signedRequest(cluster.credentials, 'GET', '/', { headers: { 'X-Request-ID': 'not valid!' } });
  const id = answer.headers['x-backend-request-id'];
  expect(id).toMatch(/^[A-Za-z0-9._:-]{1,128}$/);
  await waitFor(() => cluster.logs().some((record) => record.request_id === id));
});

test('every log record has an id, and answers to errors carry theirs', async () => {
  const missing = await signedRequest(cluster.credentials, 'GET', '/session/nowhere');
  expect(missing.status).toBe(404);
  expect(missing.body).toMatchObject({ request_id: missing.headers['x-backend-request-id'] });
  const without = cluster.logs().filter((record) => typeof record.request_id !== 'string');
  expect(without).toEqual([]);
});

test('the public API answers its handshake and refuses what it does not know', async () => {
  const handshake = await signedRequest(cluster.credentials, 'GET', '/');
  expect(handshake.body).toMatchObject({ version: 'v7.20230615' });
  const unknown = await signedRequest(cluster.credentials, 'GET', '/no/such/path');
  expect(unknown).toMatchObject({ status: 404, body: { type: 'https://api.backend.ai/probs/url-not-found' } });
});
