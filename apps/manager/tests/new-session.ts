import { type KernelId, newId, type SessionId } from '@backend.ai/core';
import type { createTenant } from '@backend.ai/testing';
import type { NewSession } from '../src/repositories/sessions.ts';

export interface NewSessionOptions {
  readonly name?: string;
  /** Of each kernel. */
  readonly slots?: Record<string, string>;
  /** Number of kernels. */
  readonly size?: number;
}

/** A session of a tenant as it is inserted. */
export function newSession(
  { user, keypair, domain, project }: Awaited<ReturnType<typeof createTenant>>,
  { name, slots = { cpu: '1', mem: '100' }, size = 1 }: NewSessionOptions = {},
): NewSession {
  const id = newId<SessionId>();
  const kernels = Array.from({ length: size }, (_, at) => ({
    id: newId<KernelId>(),
    role: at === 0 ? ('main' as const) : ('sub' as const),
    index: at === 0 ? 1 : at,
    hostname: at === 0 ? 'main1' : `sub${at}`,
  }));
  return {
    id,
    kernelId: kernels[0]!.id,
    kernels,
    name: name ?? `s-${id}`,
    domain: domain.name,
    project: project.name,
    owner: {
      userId: user.id,
      accessKey: keypair.accessKey,
      mayUse: { extent: 'project', userId: user.id, domain: domain.name },
    },
    type: 'interactive',
    image: 'i',
    architecture: 'x86_64',
    imageOrigin: null,
    tag: null,
    clusterMode: 'multi-node',
    resourceGroup: 'default',
    slots: Object.fromEntries(Object.entries(slots).map(([slot, amount]) => [slot, String(Number(amount) * size)])),
    kernelSlots: slots,
    environ: {},
    options: {},
    priority: 10,
    jobPriority: 0,
    isPreemptible: true,
    failurePolicy: 'strict',
    startsNotBefore: null,
    designatedAgents: [],
    callbackUrl: null,
    dependencies: [],
    requestId: 'req-1',
  };
}
