import { type EgressPolicy, environSchema, inputLimits, kernelSpecSchema } from '@backend.ai/contract';
import { newId } from '@backend.ai/core';
import { describe, expect, it } from 'vitest';
import { type KernelToStart, kernelSpecOf } from './kernel-spec.ts';

const kernel: KernelToStart = {
  sessionId: newId(),
  kernelId: newId(),
  agentId: 'i-one',
  name: 'demo',
  accessKey: 'AKIA',
  image: 'local/python:3.11',
  clusterRole: 'main',
  clusterIndex: 1,
  hostname: 'main1',
  slots: { cpu: '1' },
  environ: { A: 'B' },
  options: {},
  dotfiles: null,
  allowFractionalResourceFragmentation: null,
  egress: { policy: 'open' },
};
const owner = { id: newId(), email: 'user@example.com', name: 'A User' };

describe('what an agent is told of a kernel', () => {
  it('has only what applies', () => {
    const { sessionId, kernelId, accessKey, image, clusterRole, clusterIndex, hostname, slots, environ } = kernel;
    const always = { sessionId, kernelId, accessKey, image, clusterRole, clusterIndex, hostname, slots, environ };
    expect(kernelSpecOf(kernel)).toEqual({ ...always, sessionName: kernel.name });
    expect(kernelSpecOf({ ...kernel, allowFractionalResourceFragmentation: true })).toEqual(kernelSpecOf(kernel));
  });

  it('names the owner to its programs, whatever the user says', () => {
    const environ = { BACKENDAI_USER_EMAIL: 'somebody@else.example', A: 'B' };
    expect(kernelSpecOf({ ...kernel, environ, options: { owner } }).environ).toEqual({
      A: 'B',
      BACKENDAI_USER_UUID: owner.id,
      BACKENDAI_USER_EMAIL: 'user@example.com',
      BACKENDAI_USER_NAME: 'A User',
    });
  });

  it('has all that was asked for, in the form that agents take', () => {
    const options = {
      startupCommand: 'ls',
      timeoutMs: 5_000,
      bootstrapScript: 'id',
      preopenPorts: [3000],
      owner,
      shmem: '1048576',
    };
    const dotfile = { path: '.vimrc', mode: '600', content: 'set nu' };
    const dotfiles = [{ ...dotfile, owner: 'keypair' as const }];
    const egress: EgressPolicy = { policy: 'allow-list', allow: [{ to: '10.0.0.0/8', ports: ['443'] }] };
    const given = { options, dotfiles, egress, allowFractionalResourceFragmentation: false };
    const spec = kernelSpecOf({ ...kernel, ...given });
    expect(spec).toMatchObject({
      batch: { startupCommand: 'ls', timeoutMs: 5_000 },
      bootstrap: { script: 'id' },
      preopenPorts: [3000],
      shmem: 1_048_576,
      dotfiles: [dotfile],
      allowFractionalResourceFragmentation: false,
      egress,
    });
    expect(kernelSpecSchema.parse(spec)).toEqual(spec);
  });

  it('is taken by agents with the largest environment that may be asked for', () => {
    const most = Object.fromEntries(Array.from({ length: inputLimits.variables }, (_, nth) => [`V${nth}`, 'x']));
    const names = inputLimits.environment / inputLimits.variable;
    const longest = Object.fromEntries(
      Array.from({ length: names }, (_, nth) => [`V${nth}`, 'x'.repeat(inputLimits.variable - 2)]),
    );
    for (const environ of [most, longest]) {
      expect(environSchema.parse(environ)).toEqual(environ);
      const spec = kernelSpecOf({ ...kernel, environ, options: { owner } });
      expect(kernelSpecSchema.parse(spec)).toEqual(spec);
    }
  });

  it('has the batch job in the main kernel only, without a limit that nobody gave', () => {
    const options = { startupCommand: 'ls' };
    expect(kernelSpecOf({ ...kernel, options }).batch).toEqual({ startupCommand: 'ls' });
    expect(kernelSpecOf({ ...kernel, clusterRole: 'sub', hostname: 'sub1', options }).batch).toBeUndefined();
  });

  it('begins the job of a cluster on an order, where the agent of its main kernel knows of that', () => {
    const batchOf = (agentRpcVersion: number) => {
      const members = [
        { role: 'main', hostname: 'main1', agentId: 'i-one', agentAddress: null, agentRpcVersion },
        { role: 'sub', hostname: 'sub1', agentId: 'i-two', agentAddress: null, agentRpcVersion: 4 },
      ] as const;
      const cluster = { members, keyPair: { publicKey: 'ssh-rsa AAAA work@cluster', privateKey: 'PEM' } };
      return kernelSpecOf({ ...kernel, options: { startupCommand: 'ls' } }, cluster).batch;
    };
    expect(batchOf(4)).toEqual({ startupCommand: 'ls', onOrder: true });
    expect(batchOf(3)).toEqual({ startupCommand: 'ls' });
  });

  it('knows its place among all kernels, and where those on other machines are', () => {
    const members = [
      { role: 'main', hostname: 'main1', agentId: 'i-one', agentAddress: '10.0.0.1:6001', agentRpcVersion: 4 },
      { role: 'sub', hostname: 'sub1', agentId: 'i-one', agentAddress: '10.0.0.1:6001', agentRpcVersion: 4 },
      { role: 'sub', hostname: 'sub2', agentId: 'i-two', agentAddress: '[fd00::2]:6001', agentRpcVersion: 4 },
    ] as const;
    const sub = { ...kernel, clusterRole: 'sub', clusterIndex: 1, hostname: 'sub1' } as const;
    const keyPair = { publicKey: 'ssh-rsa AAAA work@cluster', privateKey: 'PEM' };
    const spec = kernelSpecOf(sub, { members, keyPair });
    expect(spec.sshKeyPair).toEqual(keyPair);
    expect(spec.cluster).toEqual({
      localRank: 1,
      replicas: { main: 1, sub: 2 },
      hosts: [{ name: 'main1' }, { name: 'sub1' }, { name: 'sub2', address: 'fd00::2' }],
    });
    expect(kernelSpecSchema.parse(spec)).toEqual(spec);
    // On a network of their own they have names, and no addresses that are known before.
    expect(kernelSpecOf(sub, { members, keyPair, network: 'net' }).cluster).toMatchObject({
      hosts: [{ name: 'main1' }, { name: 'sub1' }, { name: 'sub2' }],
      network: 'net',
    });
  });
});
