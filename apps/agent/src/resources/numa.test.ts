import { describe, expect, it } from 'vitest';
import { formatNumberList, parseNumberList, readNumaTopology } from './numa.ts';

describe('nodes of a machine', () => {
  it('are read with their processors and distances', () => {
    const files: Record<string, string> = {
      '/n/online': '0,2\n',
      '/n/node0/cpulist': '0-1,4\n',
      '/n/node0/distance': '10 21\n',
      '/n/node2/cpulist': '2-3\n',
      '/n/node2/distance': '21 10\n',
    };
    const topology = readNumaTopology((path) => files[path] ?? null, '/n');
    expect(topology.nodes).toEqual([0, 2]);
    expect([...topology.nodeOfCpu]).toEqual([
      [0, 0],
      [1, 0],
      [4, 0],
      [2, 2],
      [3, 2],
    ]);
    expect([topology.distance(0, 2), topology.distance(2, 2), topology.distance(0, 1)]).toEqual([
      21,
      10,
      Number.POSITIVE_INFINITY,
    ]);
  });

  it('are one where the machine tells of none', () => {
    const topology = readNumaTopology(() => null);
    expect([topology.nodes, topology.distance(0, 0)]).toEqual([[0], 10]);
  });

  it('are written as lists of numbers, and read from them', () => {
    expect(parseNumberList('0-2,8\n')).toEqual([0, 1, 2, 8]);
    expect(parseNumberList('')).toEqual([]);
    expect(formatNumberList([8, 0, 2, 1])).toBe('0-2,8');
  });
});
