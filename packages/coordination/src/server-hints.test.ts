import { expect, it } from 'vitest';
import { etcdFailure, etcdUnreachable } from './etcd/etcd-errors.ts';
import { redisFailure } from './redis/redis-errors.ts';

const server = { address: 'store-1:1', showConfig: './backend.ai web config show' };

it('who is refused by a server learns how to see its own settings, and no others', () => {
  const shown = expect.stringMatching(/ What is in effect: \.\/backend\.ai web config show$/);
  expect(redisFailure(new Error('WRONGPASS'), server)).toMatchObject({ code: 'config-invalid', hint: shown });
  expect(etcdFailure(new Error('user name is empty'), server)).toMatchObject({ code: 'config-invalid', hint: shown });
  const unnamed = { address: 'store-1:1', showConfig: undefined };
  expect(redisFailure(new Error('WRONGPASS'), unnamed).hint).not.toContain('./backend.ai');
});

it('a server that does not answer names the settings that lead to it', () => {
  expect(redisFailure(new Error('ECONNREFUSED'), server).hint).toContain('redis.url-file (or redis.url)');
  expect(etcdUnreachable(server, '').hint).toContain('etcd.endpoints');
});
