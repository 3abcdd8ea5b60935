import { Secret } from '@backend.ai/core';
import { expect, it } from 'vitest';
import { etcdOptions } from './stores.ts';

it('a user and a password of etcd arrive as they are, whatever is in them', () => {
  const [user, password] = ['50%', 'p%41@:/?#ä %'];
  const { urls } = etcdOptions({
    ...{ endpoints: ['http://a:2379', 'http://b:2379'], namespace: '/x' },
    ...{ user, password: new Secret(password) },
  });
  for (const text of urls) {
    const url = new URL(text);
    expect([url.username, url.password].map(decodeURIComponent)).toEqual([user, password]);
  }
});
