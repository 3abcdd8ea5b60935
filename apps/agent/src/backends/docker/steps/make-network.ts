import { openEgress } from '@backend.ai/contract';
import type { CreateStep } from '../../backend.ts';
import type { DockerContext, DockerDraft } from '../draft.ts';

/**
 * The network of the session, with what its egress policy allows, made by its first kernel on this agent and removed
 * with its last one.
 */
export function makeNetworkStep({ spec, network }: DockerDraft, { networks }: DockerContext): CreateStep {
  return {
    name: 'make-network',
    run: (signal) => networks.join(network, spec.kernelId, spec.egress ?? openEgress, signal),
    undo: () => networks.leave(network, spec.kernelId),
  };
}
