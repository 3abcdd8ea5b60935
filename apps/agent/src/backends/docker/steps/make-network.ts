import { openEgress } from '@backend.ai/contract';
import type { CreateStep } from '../../backend.ts';
import { type DockerContext, type DockerDraft, saveFacts } from '../draft.ts';

/**
 * The network of the session, joined by its first kernel on this agent, and given up with its last one. What its egress
 * policy allows is put in place while the container is made.
 */
export function makeNetworkStep(draft: DockerDraft, context: DockerContext): CreateStep {
  const { networks } = context;
  const { spec, network } = draft;
  return {
    name: 'make-network',
    async run(signal) {
      draft.subnet = await networks.join(network, spec.kernelId, spec.egress ?? openEgress, signal);
      // Nothing else tells which it is.
      saveFacts(draft, context, 'preparing');
    },
    undo: () => networks.leave(network, spec.kernelId),
  };
}
