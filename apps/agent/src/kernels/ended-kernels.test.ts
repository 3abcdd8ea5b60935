import type { RunResult } from '@backend.ai/contract';
import type { RequestId } from '@backend.ai/core';
import { describe, expect, it } from 'vitest';
import { EndedKernels } from './ended-kernels.ts';
import type { EndedKernel } from './kernel.ts';

const saying = (text: string): RunResult => ({
  runId: 'r',
  status: 'finished',
  exitCode: 0,
  options: null,
  console: [['stdout', text]],
  cursor: text.length,
  notices: [],
});
const kernel = (kernelId: string, words = ''): EndedKernel => ({
  kernelId,
  sessionId: 's',
  slots: {},
  requestId: 'r' as RequestId,
  end: { exitCode: 0, reason: 'self-terminated' },
  lastWords: new Map(words ? [['r', saying(words)]] : []),
  console: undefined,
});

describe('ended kernels', () => {
  it('are remembered up to a number', () => {
    const ended = new EndedKernels({ kernels: 2, bytes: 1_000 });
    for (const id of ['a', 'b', 'a', 'c']) ended.add(kernel(id));
    expect(['a', 'b', 'c'].map((id) => ended.get(id) !== undefined)).toEqual([true, false, true]);
  });

  it('keep what they still have to say up to a size, and that they ended beyond it', () => {
    const ended = new EndedKernels({ kernels: 100, bytes: 100 });
    for (const id of ['a', 'b', 'c']) ended.add(kernel(id, 'x'.repeat(40)));
    expect(['a', 'b', 'c'].map((id) => ended.get(id)?.lastWords.size)).toEqual([0, 1, 1]);
    expect(ended.get('a')?.end.reason).toBe('self-terminated');
    ended.add(kernel('d', 'x'.repeat(101)));
    expect(['b', 'c', 'd'].map((id) => ended.get(id)?.lastWords.size)).toEqual([0, 0, 0]);
    ended.add(kernel('e', 'x'.repeat(90)));
    expect(ended.get('e')?.lastWords.size).toBe(1);
  });
});
