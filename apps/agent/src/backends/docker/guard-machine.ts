import { AppError, hasCode } from '@backend.ai/core';
import type { Logger } from '@backend.ai/telemetry';
import type { Firewall } from './firewall.ts';

export interface GuardOptions {
  /** Whether the engine makes its networks where the firewall is. */
  readonly areMadeHere: () => Promise<boolean>;
  /** Whether there may be kernels that reach the ports of this machine. */
  readonly allowUnguarded: boolean;
  readonly logger: Logger;
}

/**
 * The firewall, in place before the first container; null: kernels reach the ports of this machine, and that was accepted.
 * @throws AppError `isolation-unavailable`, `engine-unavailable`
 */
export async function guardMachine(
  firewall: Firewall | null,
  { areMadeHere, allowUnguarded, logger }: GuardOptions,
): Promise<Firewall | null> {
  try {
    if (!firewall) {
      throw new AppError('isolation-unavailable', 'Nothing keeps containers from the ports of this machine.', {
        hint: 'Run the agent as root on a machine with iptables, or accept that: docker.allow-unguarded = true.',
      });
    }
    if (!(await areMadeHere())) {
      throw new AppError('isolation-unavailable', 'The container engine has its networks out of reach of the agent.', {
        hint: 'Run the agent in the network namespace of the engine, or accept that: docker.allow-unguarded = true.',
      });
    }
    await firewall.ensure([]);
    return firewall;
  } catch (error) {
    // That nobody could be asked is accepted by nobody.
    if (!allowUnguarded || hasCode(error, 'engine-unavailable')) throw error;
    logger.warn('containers reach the ports of this machine and the metadata of its cloud', { error });
    return null;
  }
}
