import type { KernelSpec } from '@backend.ai/contract';

/** Everything the agent makes in an engine bears these: by them it is found again, and by nothing else is it removed. */
export const labels = {
  /** Of one agent and its data folder. */
  installation: 'ai.backend.installation',
  /** The name of the agent, for people. */
  owner: 'ai.backend.owner',
  /** The same, as the original has it besides. */
  agent: 'ai.backend.agent-id',
  kernel: 'ai.backend.kernel-id',
  session: 'ai.backend.session-id',
  /** The owner of the session, for people who look at an engine. */
  user: 'ai.backend.owner-user-id',
  /** Of what was made ahead: the id of the kernel, whichever session has it by now. */
  warmSlot: 'ai.backend.warm-slot',
} as const;

export interface Owner {
  readonly installationId: string;
  readonly agentId: string;
}

export function kernelLabels(
  owner: Owner,
  { kernelId, sessionId, environ }: Pick<KernelSpec, 'kernelId' | 'sessionId' | 'environ'>,
): Record<string, string> {
  // Of the manager, whatever the user says.
  const { BACKENDAI_USER_UUID: user } = environ;
  return {
    ...ownerLabels(owner),
    ...{ [labels.session]: sessionId, [labels.kernel]: kernelId },
    ...(user === undefined ? {} : { [labels.user]: user }),
  };
}

/** A label cannot be changed: the session that takes it stands in the facts of the kernel. */
export function slotLabels(owner: Owner, slotId: string): Record<string, string> {
  return { ...ownerLabels(owner), [labels.kernel]: slotId, [labels.warmSlot]: slotId };
}

export function ownerLabels({ installationId, agentId }: Owner): Record<string, string> {
  return { [labels.installation]: installationId, [labels.owner]: agentId, [labels.agent]: agentId };
}

/** The filter that finds what an installation owns. */
export function ownedBy(installationId: string): { readonly label: string[] } {
  return { label: [`${labels.installation}=${installationId}`] };
}

/** `backend.ai/python:3.11` becomes `kernel.python.ID`. */
export function containerName(image: string, kernelId: string): string {
  const [short = ''] = (image.split('/').at(-1) ?? '').split(/[:@]/);
  return `kernel.${short.replace(/[^A-Za-z0-9_.-]/g, '-') || 'image'}.${kernelId}`;
}

/** @param networkId Of its own: which session has it stands in the facts of its kernels */
export function networkName(installationId: string, networkId: string): string {
  return `backendai-${installationId}-${networkId}`;
}
