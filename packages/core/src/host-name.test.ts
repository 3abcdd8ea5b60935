import { expect, it } from 'vitest';
import { idOfHost } from './host-name.ts';

it('a component is called after its machine, whatever that is called', () => {
  expect(idOfHost('agent', 'node-1.example')).toBe('i-node-1.example');
  expect(idOfHost('manager', 'Büro 1/2')).toBe('m-B-ro-1-2');
  expect(idOfHost('agent', 'x'.repeat(64))).toHaveLength(50);
});
