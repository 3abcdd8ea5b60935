import type { KernelSpec } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import type { Backend } from '../backends/backend.ts';
import type { EndedKernel } from './kernel.ts';

type Enforcing = Pick<Backend, 'kind' | 'capabilities'>;

/** What an agent knows of the kernel of an order. */
export interface OrderFacts {
  /** Whether the agent takes no orders any more. */
  readonly released: boolean;
  /** Or it has lived, and nobody can tell yet what has become of it. */
  readonly lives: boolean;
  /** Why no kernel can be started now. */
  readonly outage: AppError | undefined;
  readonly ended: EndedKernel | undefined;
  /** Whether what an earlier kernel of this id left is still being removed. */
  readonly isRemoved: boolean;
  /** Whether the disk has no room for another kernel. */
  readonly diskFull: boolean;
}

/** What is to be done about an order: `none`, as it has been given before; `tell-end`, as its kernel has ended already. */
export type OrderVerdict =
  | { readonly act: 'start' }
  | { readonly act: 'none' }
  | { readonly act: 'tell-end'; readonly ended: EndedKernel };

/** @throws AppError `shutting-down`, `state-conflict`, `disk-full`, `isolation-unavailable`, and what is in the way now */
export function judgeOrder(
  spec: KernelSpec,
  { released, lives, outage, ended, isRemoved, diskFull }: OrderFacts,
  backend: Enforcing,
): OrderVerdict {
  if (released) throw new AppError('shutting-down', 'The agent is shutting down.');
  if (lives) return { act: 'none' };
  if (ended) return { act: 'tell-end', ended };
  if (isRemoved) {
    throw new AppError('state-conflict', 'What an earlier kernel of this id left is still being removed.');
  }
  if (outage) throw outage;
  if (diskFull) throw new AppError('disk-full', 'The disk of the agent is full: it starts no kernels.');
  refuseUnenforced(spec, backend);
  return { act: 'start' };
}

/** @throws AppError `isolation-unavailable` */
export function refuseUnenforced({ egress }: KernelSpec, { kind, capabilities }: Enforcing): void {
  if (!egress || egress.policy === 'open' || capabilities.isolation.egress === 'enforced') return;
  throw new AppError('isolation-unavailable', `This agent cannot keep kernels to the egress policy ${egress.policy}.`, {
    data: { backend: kind, egress: egress.policy },
    hint: 'Give the resource group agents with containers and a firewall (root, iptables), or the policy open.',
  });
}
