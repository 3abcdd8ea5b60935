import { parseSubnet } from '@backend.ai/core';
import { z } from 'zod';

/** What kernels may call beyond their machine: the egress policy of their resource group. */

const highestPort = 65_535;

/** `443`, or `8000-8100`. */
const portsSchema = z
  .string()
  .refine((text) => parsePorts(text) !== null, 'must be a port or a range such as 8000-8100');

const rangeSchema = z
  .string()
  .refine(
    (text) => parseSubnet(text) !== null,
    'must be a range of IPv4 addresses such as 10.20.0.0/16, with no bits beyond its prefix',
  );

export const egressRuleSchema = z
  .strictObject({
    to: rangeSchema.describe('a range of IPv4 addresses: `10.20.0.0/16`, `192.0.2.7/32`, `0.0.0.0/0`'),
    protocol: z.enum(['tcp', 'udp']).optional().describe('absent: every protocol; with ports: tcp and udp'),
    ports: z.array(portsSchema).min(1).max(16).optional().describe('absent: all; `443`, `8000-8100`'),
  })
  .describe('packets that may leave');
export type EgressRule = z.infer<typeof egressRuleSchema>;

export const egressPolicySchema = z.discriminatedUnion('policy', [
  z.strictObject({ policy: z.literal('open') }).describe('everything beyond the machine but link-local addresses'),
  z
    .strictObject({ policy: z.literal('allow-list'), allow: z.array(egressRuleSchema).min(1).max(64) })
    .describe('what the rules name, and name servers'),
  z.strictObject({ policy: z.literal('none') }).describe('the other kernels of the session only'),
]);
export type EgressPolicy = z.infer<typeof egressPolicySchema>;

/** What is in force where nothing is said. */
export const openEgress: EgressPolicy = { policy: 'open' };

/** First and last; null for what is neither a port nor a range of them. */
export function parsePorts(text: string): readonly [number, number] | null {
  const [, first, last = first] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text) ?? [];
  const [from, to] = [Number(first), Number(last)];
  return first !== undefined && from >= 1 && from <= to && to <= highestPort ? [from, to] : null;
}
