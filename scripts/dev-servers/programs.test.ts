import { expect, it } from 'vitest';
import { missingPackages, type ServerPrograms } from './programs.ts';

it('who has PostgreSQL, Redis and etcd has what managers need: the registry of images is for tests of images', () => {
  const programs: ServerPrograms = { postgres: '/a', redis: '/b', etcd: '/c', dockerRegistry: undefined };
  expect(missingPackages(undefined, programs)).toEqual([]);
  expect(missingPackages(undefined, { ...programs, etcd: undefined })).toEqual(['etcd-server']);
  expect(missingPackages(['postgres', 'dockerRegistry'], programs)).toEqual(['docker-registry']);
});
