import type { Image } from '@backend.ai/contract';
import { describe, expect, it } from 'vitest';
import type { ResolvedImage } from '../images/image-service.ts';
import { decideSlots } from './session-request.ts';

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
