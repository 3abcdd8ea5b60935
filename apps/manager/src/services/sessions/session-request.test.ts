import type { CreateSessionInput, Image } from '@backend.ai/contract';
import { describe, expect, it } from 'vitest';
import type { AgentRecord } from '../../repositories/agents.ts';
import type { ResolvedImage } from '../images/image-service.ts';
import { checkRights, decideResourceGroups, decideSlots } from './session-request.ts';

const image = { name: 'python', minSlots: { cpu: '1', mem: '67108864' }, maxSlots: { mem: '1073741824' } };
const resolved = { image: image as unknown as Image, agents: [] } as unknown as ResolvedImage;
const known = new Set(['cpu', 'mem', 'cuda.device', 'rocm.device']);

function decide(resources: Record<string, string | number>, accelerators?: string[]) {
  const request = { resources, resourceOpts: {}, clusterMode: 'single-node' as const, clusterSize: 1 };
  return decideSlots(request, { ...resolved, image: { ...resolved.image, accelerators } }, known).slots;
}

describe('the amounts of a kernel', () => {
  it('are what was asked for, and the minimum of the image where nothing was', () => {
    expect(decide({ cpu: 2 })).toEqual({ cpu: 2_000n, mem: 67_108_864_000n });
  });

  it('are not less than the image needs, nor none of it, told as people write sizes', () => {
    expect(() => decide({ mem: '1m' })).toThrow('The image python needs more: mem is at least 64m.');
    expect(() => decide({ cpu: 0 })).toThrow('The image python needs more: cpu is at least 1.');
    expect(() => decide({ mem: '2g' })).toThrow('The image python takes no more: mem is at most 1g.');
  });

  it('have the shared memory of the image on top of its minimum, and what is filled in by that passes the check of it', () => {
    const wanting = { ...resolved, image: { ...resolved.image, shmem: String(256 * 1024 ** 2) } };
    const given = (mem?: string, shmem?: string) =>
      decideSlots(
        {
          ...{ clusterMode: 'single-node', clusterSize: 1 },
          ...{ resources: mem === undefined ? {} : { mem }, resourceOpts: { shmem } },
        },
        wanting,
        known,
      );
    const [mebibyte, shmem] = [1024n ** 2n, 256n * 1024n ** 2n];
    expect(given()).toEqual({ slots: { cpu: 1_000n, mem: 320n * mebibyte * 1_000n }, shmem });
    expect(given('320m')).toEqual(given());
    expect(given(undefined, '128m').slots.mem).toBe(192n * mebibyte * 1_000n);
    expect(given('200m', '128m').shmem).toBe(128n * mebibyte);
    expect(() => given('300m')).toThrow('The image python needs more: mem is at least 320m.');
    expect(() => given('200m')).toThrow(
      expect.objectContaining({
        message: 'Invalid input: resources.mem must be more than 256m, which the image wants as shared memory alone.',
        data: { fields: { 'resources.mem': expect.any(String) } },
      }),
    );
    expect(() => given('200m', '200m')).toThrow(
      expect.objectContaining({ data: { fields: { 'resourceOpts.shmem': 'must be less than the memory' } } }),
    );
  });

  it('may be none of what the image can do without', () => {
    expect(decide({ 'cuda.device': 0 })).not.toHaveProperty('cuda.device');
  });

  it('are of accelerators for which the image is made, where it says so', () => {
    expect(decide({ 'cuda.device': 1 }, ['cuda', 'tpu'])).toHaveProperty('cuda.device', 1_000n);
    expect(decide({ 'rocm.device': 1 })).toHaveProperty('rocm.device', 1_000n);
    expect(decide({ cpu: 1, 'rocm.device': 0 }, ['cuda'])).not.toHaveProperty('rocm.device');
    expect(() => decide({ 'rocm.device': 1 }, ['cuda', 'tpu'])).toThrow(
      expect.objectContaining({
        message: 'The image python is made for cuda, tpu, not for rocm.device.',
        data: { fields: { 'resources.rocm.device': 'is none of cuda, tpu' } },
      }),
    );
  });
});

describe('what users may ask for', () => {
  const plain = { designatedAgents: [], type: 'interactive' } as unknown as CreateSessionInput;

  it.each([
    ['the agents of a session', { ...plain, designatedAgents: ['i-1'] }, 'designatedAgents'],
    ['a session of the system', { ...plain, type: 'system' as const }, 'type'],
  ])('is not %s: that is for superadmins', (_what, input, field) => {
    for (const role of ['user', 'admin'] as const) {
      expect(() => checkRights(input, { role })).toThrow(
        expect.objectContaining({ code: 'forbidden', data: { fields: { [field]: 'is for superadmins' } } }),
      );
      expect(() => checkRights(plain, { role })).not.toThrow();
    }
    expect(() => checkRights(input, { role: 'superadmin' })).not.toThrow();
  });
});

describe('the resource groups of a session', () => {
  const agent = (resourceGroup: string, cpu: string) =>
    ({ resourceGroup, capacity: { cpu } }) as unknown as AgentRecord;
  const agents = [
    agent('small', '2'),
    agent('large', '8'),
    agent('default', '4'),
    agent('large', '8'),
    agent('big', '1'),
  ];

  it('are those of agents that are large enough, the default one first, each once', () => {
    expect(decideResourceGroups(null, { cpu: 4_000n }, agents)).toEqual(['default', 'large']);
    expect(decideResourceGroups(null, { cpu: 8_000n }, agents)).toEqual(['large']);
    expect(decideResourceGroups(undefined, { cpu: 1_000n }, agents)).toEqual(['default', 'big', 'large', 'small']);
  });

  it('are the one that is named, or the default one where nobody is large enough', () => {
    expect(decideResourceGroups('small', { cpu: 8_000n }, agents)).toEqual(['small']);
    expect(decideResourceGroups(null, { cpu: 9_000n }, agents)).toEqual(['default']);
  });
});
