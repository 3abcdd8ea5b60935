import { randomBytes } from 'node:crypto';
import { makeTempDirectory } from '@backend.ai/testing';
import type { TestProject } from 'vitest/node';
import { startEtcd, startPostgres, startRedis } from './index.ts';

/** One server of each kind for all files of the project; tests that stop or pause one start their own. */
export default async function startServers(project: TestProject): Promise<() => Promise<void>> {
  const directory = await makeTempDirectory();
  const password = randomBytes(16).toString('hex');
  const starts = await Promise.allSettled([
    startPostgres({ directory: `${directory.path}/postgres`, password, durable: false }),
    startRedis({ directory: `${directory.path}/redis`, password, durable: false }),
    startEtcd({ directory: `${directory.path}/etcd` }),
  ]);
  const stop = async (): Promise<void> => {
    await Promise.all(starts.map((start) => start.status === 'fulfilled' && start.value.stop()));
    await directory.remove();
  };
  const [postgres, redis, etcd] = starts.map((start) => (start.status === 'fulfilled' ? start.value.url : ''));
  const failure = starts.find((start) => start.status === 'rejected');
  if (failure) {
    await stop();
    throw failure.reason;
  }
  project.provide('servers', { postgresUrl: postgres!, redisUrl: redis!, etcdUrl: etcd! });
  return stop;
}
