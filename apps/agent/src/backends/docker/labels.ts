/** Everything the agent makes in an engine bears these: by them it is found again, and by nothing else is it removed. */
export const labels = {
  /** Of one agent and its data folder. */
  installation: 'ai.backend.installation',
  /** The name of the agent, for people. */
  owner: 'ai.backend.owner',
  kernel: 'ai.backend.kernel-id',
  session: 'ai.backend.session-id',
  /** Of what was made ahead: the id of the kernel, whichever session has it by now. */
  warmSlot: 'ai.backend.warm-slot',
} as const;

export interface Owner {
  readonly installationId: string;
  readonly agentId: string;
}

export function kernelLabels(owner: Owner, kernelId: string, sessionId: string): Record<string, string> {
  return { ...ownerLabels(owner), [labels.session]: sessionId, [labels.kernel]: kernelId };
}

/** A label cannot be changed: the session that takes it stands in the facts of the kernel. */
export function slotLabels(owner: Owner, slotId: string): Record<string, string> {
  return { ...ownerLabels(owner), [labels.kernel]: slotId, [labels.warmSlot]: slotId };
}

export function ownerLabels({ installationId, agentId }: Owner): Record<string, string> {
  return { [labels.installation]: installationId, [labels.owner]: agentId };
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
