import type { CreateSessionInput } from '@backend.ai/contract';
import {
  AppError,
  amountForPeople,
  amountToText,
  fits,
  lackingSlots,
  parseResourceSlots,
  type ResourceSlots,
  slotsFromTexts,
} from '@backend.ai/core';
import type { AgentRecord } from '../../repositories/agents.ts';
import type { ResolvedImage } from '../images/image-service.ts';

/** Pure checks of what a user asked for, against what the cluster could give at best. */

/** @throws AppError `unsupported-feature` */
export function checkSupported(input: CreateSessionInput): void {
  const refuse = (what: string, data: Record<string, unknown>): never => {
    throw new AppError('unsupported-feature', `${what} are not part of this version.`, { data });
  };
  if (input.type !== 'interactive') refuse(`Sessions of type "${input.type}"`, { type: input.type });
  if (input.clusterMode !== 'single-node') refuse('Sessions over several nodes', { clusterMode: input.clusterMode });
  if (input.clusterSize > 1) refuse('Sessions of several kernels', { clusterSize: input.clusterSize });
}

/**
 * The amounts a session gets: what was asked, and the image's minimum for the rest.
 * @throws AppError `unknown-slot`, `invalid-input`, `insufficient-capacity`
 */
export function decideSlots(
  resources: CreateSessionInput['resources'],
  { image, agents }: ResolvedImage,
  allAgents: readonly AgentRecord[],
): ResourceSlots {
  const known = new Set(allAgents.flatMap((agent) => Object.keys(agent.capacity)));
  const asked = parseResourceSlots(resources, known);
  const least = slotsFromTexts(image.minSlots);
  const below = lackingSlots(least, { ...least, ...asked });
  if (below.length > 0) {
    const fields = below.map((name) => `${name} is at least ${amountToText(least[name] ?? 0n)}`);
    throw new AppError('invalid-input', `The image ${image.name} needs more: ${fields.join(', ')}.`, {
      data: {
        fields: Object.fromEntries(below.map((name) => [`resources.${name}`, 'is below the minimum of the image'])),
      },
    });
  }
  const wanted = { ...least, ...asked };
  const capacities = agents.map((agent) => slotsFromTexts(agent.capacity));
  if (!capacities.some((capacity) => fits(wanted, capacity))) throw tooLarge(wanted, capacities);
  return wanted;
}

function tooLarge(wanted: ResourceSlots, capacities: readonly ResourceSlots[]): AppError {
  const largestOf = (name: string): bigint =>
    capacities.reduce((most, capacity) => ((capacity[name] ?? 0n) > most ? (capacity[name] ?? 0n) : most), 0n);
  const exceeding = Object.keys(wanted).filter((name) => (wanted[name] ?? 0n) > largestOf(name));
  // Each amount alone may fit somewhere, but not all of them on one agent.
  const named = exceeding.length > 0 ? exceeding : Object.keys(wanted);
  const slots = Object.fromEntries(
    named.map((name) => [
      name,
      { asked: amountToText(wanted[name] ?? 0n), largestAgent: amountToText(largestOf(name)) },
    ]),
  );
  const text = named.map((name) => {
    const [asked, largest] = [wanted[name] ?? 0n, largestOf(name)].map((amount) => amountForPeople(name, amount));
    return `${name}: asked for ${asked}, the largest agent has ${largest}`;
  });
  return new AppError('insufficient-capacity', `No agent is large enough. ${text.join('; ')}.`, { data: { slots } });
}

/** The group named, or the one of an agent that could take it; `default` is preferred. */
export function decideResourceGroup(
  named: string | null | undefined,
  slots: ResourceSlots,
  agents: readonly AgentRecord[],
): string {
  if (named) return named;
  const able = agents.filter((agent) => fits(slots, slotsFromTexts(agent.capacity)));
  const groups = new Set(able.map((agent) => agent.resourceGroup));
  return groups.has('default') ? 'default' : ([...groups].sort()[0] ?? 'default');
}
