import type { KernelSpec } from '@backend.ai/contract';
import { AppError, type RequestId } from '@backend.ai/core';
import { describe, expect, it } from 'vitest';
import type { Backend } from '../backends/backend.ts';
import type { EndedKernel } from './kernel.ts';
import { judgeOrder, type OrderFacts } from './order.ts';

const unknown: OrderFacts = {
  ...{ released: false, lives: false, outage: undefined, ended: undefined, isRemoved: false, diskFull: false },
};
const ended: EndedKernel = {
  ...{
    kernelId: 'k',
    sessionId: 's',
    slots: {},
    requestId: 'r' as RequestId,
    lastWords: new Map(),
    console: undefined,
  },
  end: { exitCode: 0, reason: 'self-terminated' },
};
const backend = (egress: 'open' | 'enforced') =>
  ({ kind: 'process', capabilities: { isolation: { egress } } }) as Pick<Backend, 'kind' | 'capabilities'>;
const judge = (facts: Partial<OrderFacts>, spec: Partial<KernelSpec> = {}, egress: 'open' | 'enforced' = 'open') =>
  judgeOrder(spec as KernelSpec, { ...unknown, ...facts }, backend(egress));

describe('an order to start a kernel', () => {
  it('is carried out once: that of a kernel that lives changes nothing, one that has ended is told of again', () => {
    expect(judge({})).toEqual({ act: 'start' });
    expect(judge({ lives: true })).toEqual({ act: 'none' });
    expect(judge({ ended })).toEqual({ act: 'tell-end', ended });
    // Its end is known, whatever is left of it.
    expect(judge({ ended, isRemoved: true })).toEqual({ act: 'tell-end', ended });
  });

  it('is refused while remains of an earlier kernel are removed, and by an agent that shuts down', () => {
    expect(() => judge({ isRemoved: true })).toThrowError(expect.objectContaining({ code: 'state-conflict' }));
    expect(() => judge({ released: true, lives: true })).toThrowError(
      expect.objectContaining({ code: 'shutting-down' }),
    );
  });

  it('is refused while the disk is full, unless it was carried out before', () => {
    expect(() => judge({ diskFull: true })).toThrowError(expect.objectContaining({ code: 'disk-full' }));
    expect(judge({ diskFull: true, lives: true })).toEqual({ act: 'none' });
    expect(judge({ diskFull: true, ended })).toEqual({ act: 'tell-end', ended });
  });

  it('is refused in an outage, unless it was carried out before', () => {
    const outage = new AppError('engine-unavailable', 'The engine does not answer.');
    expect(() => judge({ outage })).toThrowError(outage);
    expect(judge({ outage, lives: true })).toEqual({ act: 'none' });
    expect(judge({ outage, ended })).toEqual({ act: 'tell-end', ended });
  });

  it('is refused where its egress policy cannot be enforced', () => {
    const none = { egress: { policy: 'none' } } as Partial<KernelSpec>;
    const open = { egress: { policy: 'open' } } as Partial<KernelSpec>;
    expect(() => judge({}, none)).toThrowError(expect.objectContaining({ code: 'isolation-unavailable' }));
    expect(judge({}, open)).toEqual({ act: 'start' });
    expect(judge({}, none, 'enforced')).toEqual({ act: 'start' });
  });
});
